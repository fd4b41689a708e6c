"""Repositories of manifests with made-up names, as rows: what keeps what, without any blobs."""

import hashlib

from entrepot.db import manifests, tags


def digest(name):
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def fallback(name, ending=""):
    """The tag that says to belong to this manifest."""
    return digest(name).replace(":", "-") + ending


class Graph:
    """Writes one repository within a transaction; all moments are the test's."""

    def __init__(self, tx, repository_id):
        self._tx = tx
        self.id = repository_id

    async def put(self, name, *, subject=None, children=(), at=1, protected_until=0, body=b"{}"):
        await manifests.put(
            self._tx,
            self.id,
            digest=digest(name),
            media_type="x",
            artifact_type=None,
            subject=subject and digest(subject),
            annotations=None,
            depth=0,
            body=body,
            now=at,
            protected_until=protected_until,
        )
        await manifests.add_references(
            self._tx, self.id, digest(name), blobs=(), children=map(digest, children)
        )

    async def tag(self, tag, name, *, at=1, expires_at=None):
        await tags.move(self._tx, self.id, tag, digest(name), token_id=None, now=at)
        await self._tx.execute(
            """
            UPDATE tags
               SET expires_at = :expires_at
             WHERE repository_id = :id AND name = :tag
            """,
            expires_at=expires_at,
            id=self.id,
            tag=tag,
        )

    async def pull(self, name, *, at):
        await self._tx.execute(
            "UPDATE manifests SET pulled_at = :at WHERE repository_id = :id AND digest = :digest",
            at=at,
            id=self.id,
            digest=digest(name),
        )
