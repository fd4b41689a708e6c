"""Looking at what a repository holds: its tags, its manifests, and what they say of themselves."""

import asyncio
from dataclasses import dataclass

from entrepot.db import blobs, manifests, tags
from entrepot.db.database import Database
from entrepot.model.access import Action, Actor
from entrepot.model.digests import Digest, is_named
from entrepot.model.errors import ManifestUnknown, ObjectMissing, StorageFailed, Unavailable
from entrepot.model.images import ManifestParts, Platform, platform_of, read_config, read_parts
from entrepot.model.names import Tag
from entrepot.model.stored import ListedManifest, ListedTag
from entrepot.services.access import Access
from entrepot.services.objects import Objects

TAGS = 100  # of one manifest that are shown


@dataclass(frozen=True, slots=True)
class ManifestView:
    """A manifest taken apart. At most TAGS of its tags; `config` is the image's own document."""

    manifest: ListedManifest
    parts: ManifestParts
    tags: tuple[str, ...]
    platforms: tuple[Platform, ...]
    config: dict[str, object] | None


class Contents:
    """Reads for people. A configuration over `config_bytes` bytes is not read.

    Every method raises Unauthenticated, and NotFound to whoever may not pull from the repository.
    """

    def __init__(
        self, database: Database, objects: Objects, access: Access, *, config_bytes: int
    ) -> None:
        self._database = database
        self._objects = objects
        self._access = access
        self._config_bytes = config_bytes

    async def tags(
        self, actor: Actor, repository_id: int, *, prefix: str, after: str, limit: int
    ) -> tuple[list[ListedTag], bool]:
        """Up to `limit` tags that begin with `prefix`, in byte order, and whether more follow."""
        async with self._database.read(scan=True) as tx:
            await self._access.enter_repository(tx, actor, Action.PULL, repository_id)
            found = await tags.find_all(
                tx, repository_id, prefix=prefix, after=after, limit=limit + 1
            )
        return found[:limit], len(found) > limit

    async def tag(self, actor: Actor, repository_id: int, tag: Tag) -> ListedTag:
        """One tag. Raises ManifestUnknown as well."""
        async with self._database.read() as tx:
            await self._access.enter_repository(tx, actor, Action.PULL, repository_id)
            found = await tags.find(tx, repository_id, tag.text)
        if found is None:
            raise ManifestUnknown("no such tag in this repository", tag=tag.text)
        return found

    async def manifests(
        self, actor: Actor, repository_id: int, *, after: str, limit: int
    ) -> tuple[list[ListedManifest], bool]:
        """Up to `limit` manifests by digest, tagged or not, and whether more follow.

        By digest, because their key is in this order: a page costs the same wherever it is.
        """
        async with self._database.read(scan=True) as tx:
            await self._access.enter_repository(tx, actor, Action.PULL, repository_id)
            found = await manifests.find_all(tx, repository_id, after=after, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def manifest(self, actor: Actor, repository_id: int, digest: Digest) -> ManifestView:
        """One manifest, with what its configuration tells. Raises ManifestUnknown as well."""
        async with self._database.read() as tx:
            await self._access.enter_repository(tx, actor, Action.PULL, repository_id)
            found = await manifests.get(tx, repository_id, str(digest))
            names = await tags.names_of(tx, repository_id, str(digest), limit=TAGS)
        if found is None:
            raise ManifestUnknown("no such manifest in this repository", digest=str(digest))
        listed, body = found
        if not await asyncio.to_thread(is_named, listed.digest, body):
            raise ObjectMissing("a stored manifest is damaged; push it again to mend it")
        parts = await asyncio.to_thread(read_parts, body, listed.media_type)
        config = await self._config(repository_id, parts)
        platforms = parts.platforms
        if config is not None and (platform := platform_of(config, listed.digest)) is not None:
            platforms = (platform,)
        return ManifestView(listed, parts, tuple(sorted(names)), platforms, config)

    async def _config(self, repository_id: int, parts: ManifestParts) -> dict[str, object] | None:
        """The configuration of an image, if it is here, small and readable."""
        if parts.config is None:
            return None
        async with self._database.read() as tx:
            blob = await blobs.find(tx, repository_id, parts.config.digest)
        if blob is None or blob.size > self._config_bytes:
            return None
        try:
            content = await self._objects.read(blob)
            return await asyncio.to_thread(read_config, content)
        except (ObjectMissing, StorageFailed, Unavailable, FileNotFoundError):
            return None  # a pull says so; here the rest of the manifest is worth showing
