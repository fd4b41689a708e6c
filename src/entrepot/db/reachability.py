"""What keeps a manifest: the one answer that retention, deletion and collection go by.

A manifest is kept by a tag, while it is protected, and by whatever is kept of: an index that lists
it, its subject, a referrer of it, and what its tag `sha256-…` says that it belongs to. A subject
and its referrers are one: kept if any of them is.
"""

import json
from collections.abc import Collection

from entrepot.db.database import Row, Transaction

TOO_MANY = "too many to look at"

_BUDGET = 2_000  # manifests that one question may reach


def belongs_to(tag: str, manifest: str) -> str:
    """A condition: the manifest is what a tag such as `sha256-9f86….sig` says that it belongs to.

    distribution-spec, "Referrers Tag Schema": the algorithm, and at most 64 letters of the digest;
    cosign appends .sig, .att and .sbom. A tag belongs to nothing that it points at. Both are
    aliases of rows. The manifest is found by its key.
    """
    named = f"substr({tag}.name, 1, 6) || ':' || substr({tag}.name, 8, 64)"
    return f"""
               substr({tag}.name, 1, 7) IN ('sha256-', 'sha512-')
           AND length({tag}.name) >= 71
           AND substr({tag}.name, 72, 1) IN ('', '.')
           AND {manifest}.repository_id = {tag}.repository_id
           AND {manifest}.digest >= {named}
           AND {manifest}.digest < {named} || 'g'
           AND {manifest}.digest <> {tag}.digest
    """


# Of m, a manifest: a tag of its own. One that says to what it belongs counts where that is not.
_TAG = f"""
        (SELECT t.name
           FROM tags AS t
          WHERE t.repository_id = m.repository_id
            AND t.digest = m.digest
            AND t.name NOT IN (SELECT value FROM json_each(:without_tags))
            AND NOT EXISTS (SELECT 1
                              FROM manifests AS o
                             WHERE {belongs_to("t", "o")})
          LIMIT 1)
"""
# Of m: a deletion that can be undone keeps whatever hangs below.
_RESTORABLE = """
        (m.digest <> h.start AND COALESCE(m.deleted_at, m.orphaned_at) > :restorable_since)
"""


async def find_kept(
    tx: Transaction,
    repository_id: int,
    digests: Collection[str],
    *,
    now: int,
    restorable_since: int | None = None,
    without_tags: Collection[str] = (),
) -> dict[str, str]:
    """Which of these manifests are kept, and by what, for people.

    With `restorable_since` also what hangs below a manifest that was deleted, or lost its last
    tag, after then. `without_tags` are taken for gone. Whatever reaches too many manifests is kept.
    """
    without = json.dumps(list(without_tags))

    async def reach(starts: list[str]) -> list[Row]:
        return await _reach(tx, repository_id, starts, now, restorable_since, without)

    reached = await reach(sorted(digests))
    if len(reached) < _BUDGET:
        return _reasons(reached)
    # One that reaches far must not keep the others. Whatever it reached reaches as far.
    kept: dict[str, str] = {}
    crowd: set[str] = set()
    for digest in sorted(digests):
        if digest not in crowd:
            reached = await reach([digest])
            kept |= _reasons(reached)
            if len(reached) == _BUDGET and digest not in kept:
                crowd |= {str(row[1]) for row in reached}
        if digest in crowd:
            kept.setdefault(digest, TOO_MANY)
    return kept


async def _reach(
    tx: Transaction,
    repository_id: int,
    digests: list[str],
    now: int,
    restorable_since: int | None,
    without_tags: str,
) -> list[Row]:
    """From each manifest all that may keep it, no further than to what does, with the reason.

    A row is a way: from which manifest, to which, its own tag, whether it is protected, and whether
    it can be restored. One statement, so that a tag that moves meanwhile is seen once. Each kind of
    edge is a join of its own whose key is NULL for the other kinds.
    """
    return await tx.fetch_all(
        f"""
        WITH RECURSIVE holds (start, digest) AS (
            SELECT m.digest, m.digest
              FROM manifests AS m
             WHERE m.repository_id = :repository_id
               AND m.digest IN (SELECT value FROM json_each(:digests))
             UNION
            SELECT h.start,
                   COALESCE(l.manifest, u.manifest, r.digest, o.digest,
                            CASE WHEN e.kind = 5 THEN m.subject END)
              FROM holds AS h
              JOIN manifests AS m ON m.repository_id = :repository_id AND m.digest = h.digest
             CROSS JOIN (SELECT 1 AS kind UNION ALL SELECT 2 UNION ALL SELECT 3
                          UNION ALL SELECT 4 UNION ALL SELECT 5) AS e
              LEFT JOIN manifest_children AS l
                ON l.repository_id = :repository_id
               AND l.digest = CASE WHEN e.kind = 1 THEN m.digest END
              LEFT JOIN mirrored_children AS u
                ON u.repository_id = :repository_id
               AND u.digest = CASE WHEN e.kind = 2 THEN m.digest END
              LEFT JOIN manifests AS r
                ON r.repository_id = :repository_id
               AND r.subject = CASE WHEN e.kind = 3 THEN m.digest END
              LEFT JOIN tags AS f
                ON f.repository_id = :repository_id
               AND f.digest = CASE WHEN e.kind = 4 THEN m.digest END
              LEFT JOIN manifests AS o
                ON {belongs_to("f", "o")}
             WHERE COALESCE(l.manifest, u.manifest, r.digest, o.digest,
                            CASE WHEN e.kind = 5 THEN m.subject END) IS NOT NULL
               AND m.protected_until <= :now
               AND {_RESTORABLE} IS NOT TRUE
               AND {_TAG} IS NULL
        )
        SELECT h.start, h.digest, {_TAG}, m.protected_until > :now, {_RESTORABLE}
          FROM (SELECT start, digest FROM holds LIMIT :budget) AS h
          LEFT JOIN manifests AS m ON m.repository_id = :repository_id AND m.digest = h.digest
        """,
        repository_id=repository_id,
        digests=json.dumps(digests),
        now=now,
        restorable_since=restorable_since,
        without_tags=without_tags,
        budget=_BUDGET,
    )


def _reasons(reached: list[Row]) -> dict[str, str]:
    """Why each is kept that is; its own tag before all, then the tag of another."""
    best: dict[str, tuple[int, str]] = {}
    for start, digest, tag, is_protected, is_restorable in reached:
        whose = "" if start == digest else f" of {digest!s}"
        if tag is not None:
            found = (2 if whose else 0, f"tag {tag!s}{whose}")
        elif is_protected:
            found = (3 if whose else 1, f"protected{whose}")
        elif is_restorable:
            found = (4, f"restorable{whose}")
        else:
            continue
        best[str(start)] = min(found, best.get(str(start), found))
    return {start: reason for start, (_, reason) in best.items()}
