"""What keeps a manifest: the one answer that retention, deletion and collection go by.

A manifest is kept by a tag, while it is protected, and by whatever is kept of: an index that lists
it, its subject, a referrer of it, and what its tag `sha256-…` says that it belongs to. A subject
and its referrers are one: kept if any of them is.
"""

import json
from collections import defaultdict
from collections.abc import Collection

from entrepot.db.database import Row, Transaction

TOO_MANY = "too many to look at"

_BUDGET = 1_000  # manifests that one statement may reach


def belongs_to(tag: str, manifest: str) -> str:
    """A condition: the manifest is what a tag such as `sha256-9f86….sig` says that it belongs to.

    distribution-spec, "Referrers Tag Schema"; cosign appends .sig, .att and .sbom. A tag belongs to
    nothing that it points at. Both are aliases of rows, and the manifest is found by its key. Of
    SHA-512 such a tag holds half a digest, which is no key: it is an ordinary tag here.
    """
    return f"""
               substr({tag}.name, 1, 7) = 'sha256-'
           AND substr({tag}.name, 72, 1) IN ('', '.')
           AND {manifest}.repository_id = {tag}.repository_id
           AND {manifest}.digest = 'sha256:' || substr({tag}.name, 8, 64)
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
_RESTORABLE = "(COALESCE(m.deleted_at, m.orphaned_at) > :restorable_since)"
# Of r, a referrer: it may have a root of its own side. One that nothing else is known of has none,
# however many of them a subject has. No EXISTS, of which PostgreSQL may read a whole table at once.
_MAY_KEEP = """
                   (r.protected_until > :now
                    OR COALESCE(r.deleted_at, r.orphaned_at) > :restorable_since
                    OR COALESCE((SELECT 1
                                   FROM tags AS a
                                  WHERE a.repository_id = r.repository_id
                                    AND a.digest = r.digest
                                  LIMIT 1),
                                (SELECT 1
                                   FROM manifests AS a
                                  WHERE a.repository_id = r.repository_id
                                    AND a.subject = r.digest
                                  LIMIT 1),
                                (SELECT 1
                                   FROM manifest_children AS a
                                  WHERE a.repository_id = r.repository_id
                                    AND a.digest = r.digest
                                  LIMIT 1),
                                (SELECT 1
                                   FROM mirrored_children AS a
                                  WHERE a.repository_id = r.repository_id
                                    AND a.digest = r.digest
                                  LIMIT 1)) = 1)
"""
# Whatever m is kept with, for n, a manifest: each kind of edge is a join of its own, the key of
# which is NULL for the other kinds.
_KEEPER = """
               COALESCE(l.manifest, u.manifest, r.digest, o.digest,
                        CASE WHEN e.kind = 5 THEN m.subject END)
"""
_EDGES = f"""
              JOIN manifests AS m ON m.repository_id = :repository_id AND m.digest = n.digest
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
               AND {_MAY_KEEP}
              LEFT JOIN tags AS f
                ON f.repository_id = :repository_id
               AND f.digest = CASE WHEN e.kind = 4 THEN m.digest END
              LEFT JOIN manifests AS o
                ON {belongs_to("f", "o")}
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

    With `restorable_since` also by a manifest that was deleted, or lost its last tag, after then.
    `without_tags` are taken for gone. Whatever reaches further than we look is kept; what does so
    in the company of others is looked at alone.
    """
    kept = await _judge(tx, repository_id, digests, now, restorable_since, without_tags)
    unclear = [digest for digest, reason in kept.items() if reason == TOO_MANY]
    if len(digests) > 1:
        for digest in unclear:
            del kept[digest]
            kept |= await _judge(tx, repository_id, [digest], now, restorable_since, without_tags)
    return kept


async def _judge(
    tx: Transaction,
    repository_id: int,
    digests: Collection[str],
    now: int,
    restorable_since: int | None,
    without_tags: Collection[str],
) -> dict[str, str]:
    rows = await _reach(tx, repository_id, digests, now, restorable_since, without_tags)
    keepers: dict[str, set[str]] = defaultdict(set)
    roots: dict[str, str] = {}
    reached: set[str] = set()
    for digest, keeper, is_node, tag, is_protected, is_restorable, _ in rows:
        if keeper is not None:
            keepers[str(digest)].add(str(keeper))
        if is_node:
            reached.add(str(digest))
            if tag is not None:
                roots[str(digest)] = f"tag {tag!s}"
            elif is_protected:
                roots[str(digest)] = "protected"
            elif is_restorable:
                roots[str(digest)] = "restorable"
    is_cut = bool(rows) and rows[0][-1] == _BUDGET
    kept: dict[str, str] = {}
    for digest in digests:
        if digest not in reached and not is_cut:  # there is no such manifest
            continue
        reason = _reason(digest, keepers, roots, reached if is_cut else None)
        if reason is not None:
            kept[digest] = reason
    return kept


def _reason(
    start: str, keepers: dict[str, set[str]], roots: dict[str, str], reached: set[str] | None
) -> str | None:
    """The nearest root that keeps a manifest; or that its ways lead beyond what was `reached`."""
    if start in roots:
        return roots[start]
    seen, border = {start}, {start}
    is_cut = reached is not None and start not in reached
    while border:
        border = set().union(*(keepers[digest] for digest in border)) - seen
        found = sorted((roots[digest], digest) for digest in border if digest in roots)
        if found:
            reason, digest = found[-1]  # a tag, if there is one
            return f"{reason} of {digest}"
        is_cut = is_cut or (reached is not None and not border <= reached)
        seen |= border
    return TOO_MANY if is_cut else None


async def _reach(
    tx: Transaction,
    repository_id: int,
    digests: Collection[str],
    now: int,
    restorable_since: int | None,
    without_tags: Collection[str],
) -> list[Row]:
    """All that may keep these manifests, no further than to what does, as one graph.

    Rows are ways, from which manifest to which that keeps it; one of each manifest also says what
    it is; all say how many were looked at. One statement, so that a tag that moves meanwhile is
    seen once.
    """
    return await tx.fetch_all(
        f"""
        WITH RECURSIVE near (digest) AS (
            SELECT m.digest
              FROM manifests AS m
             WHERE m.repository_id = :repository_id
               AND m.digest IN (SELECT value FROM json_each(:digests))
             UNION
            SELECT {_KEEPER}
              FROM near AS n
              {_EDGES}
             WHERE {_KEEPER} IS NOT NULL
               AND m.protected_until <= :now
               AND {_RESTORABLE} IS NOT TRUE
               AND {_TAG} IS NULL
        ), looked (digest) AS (
            SELECT digest FROM near LIMIT :budget
        )
        SELECT n.digest, {_KEEPER}, e.kind = 5,
               CASE WHEN e.kind = 5 THEN {_TAG} END,
               m.protected_until > :now, {_RESTORABLE}, (SELECT COUNT(*) FROM looked)
          FROM looked AS n
          {_EDGES}
         WHERE e.kind = 5 OR {_KEEPER} IS NOT NULL
        """,
        repository_id=repository_id,
        digests=json.dumps(sorted(digests)),
        now=now,
        restorable_since=restorable_since,
        without_tags=json.dumps(list(without_tags)),
        budget=_BUDGET,
    )
