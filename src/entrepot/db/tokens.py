"""Tokens: the credentials that can be revoked. Only their SHA-256 is known here."""

import json
from collections.abc import Collection

from entrepot.db import projects
from entrepot.db.database import Row, Transaction
from entrepot.model.access import Credential, Kind, Role
from entrepot.model.tenancy import TokenFacts

# A token counts while it is not revoked and its user, organisation and project are there; a project
# that went to another organisation leaves its tokens behind.
_SELECT = """
        SELECT t.id, t.kind, t.user_id, t.organisation_id, t.project_id, t.patterns, t.actions,
               t.expires_at, t.may_manage, COALESCE(u.name, t.name), u.is_administrator
          FROM tokens AS t
          LEFT JOIN users AS u ON u.id = t.user_id
          LEFT JOIN organisations AS o ON o.id = t.organisation_id
          LEFT JOIN projects AS p ON p.id = t.project_id
         WHERE t.revoked_at IS NULL
           AND u.disabled_at IS NULL
           AND o.deleted_at IS NULL
           AND p.deleted_at IS NULL
           AND (t.project_id IS NULL OR p.organisation_id = t.organisation_id)
"""
_FACTS = """
        SELECT t.id, t.kind, t.name, t.user_id, u.name, t.organisation_id, o.slug, t.project_id,
               p.public_id, t.patterns, t.actions, t.may_manage, t.created_at, c.name,
               t.expires_at, t.last_used_at, t.revoked_at
          FROM tokens AS t
          LEFT JOIN users AS u ON u.id = t.user_id
          LEFT JOIN organisations AS o ON o.id = t.organisation_id
          LEFT JOIN projects AS p ON p.id = t.project_id
          LEFT JOIN users AS c ON c.id = t.created_by
"""


async def find_by_hash(tx: Transaction, token_hash: str) -> Credential | None:
    """The credential whose token has this SHA-256; it may have expired."""
    row = await tx.fetch_one(f"{_SELECT} AND t.hash = :hash", hash=token_hash)
    return await _credential(tx, row)


async def find(tx: Transaction, token_id: int) -> Credential | None:
    """The credential in this row; it may have expired."""
    row = await tx.fetch_one(f"{_SELECT} AND t.id = :token_id", token_id=token_id)
    return await _credential(tx, row)


async def add(
    tx: Transaction,
    credential: Credential,
    *,
    token_hash: str,
    name: str,
    created_by: int | None = None,
    now: int,
) -> None:
    """Keep a new token; `created_by` is a user."""
    await tx.execute(
        """
        INSERT INTO tokens (id, kind, hash, name, user_id, organisation_id, project_id,
                            patterns, actions, may_manage, created_by, created_at, expires_at)
        VALUES (:id, :kind, :hash, :name, :user_id, :organisation_id, :project_id,
                :patterns, :actions, :may_manage, :created_by, :now, :expires_at)
        """,
        id=credential.token_id,
        kind=str(credential.kind),
        hash=token_hash,
        name=name,
        user_id=credential.user_id,
        organisation_id=credential.organisation_id,
        project_id=credential.project_id,
        patterns=json.dumps(credential.patterns) if credential.patterns is not None else None,
        actions=json.dumps(sorted(credential.actions)) if credential.actions is not None else None,
        may_manage=int(credential.may_manage),
        created_by=created_by,
        now=now,
        expires_at=credential.expires_at,
    )


async def revoke(tx: Transaction, token_id: int, now: int) -> bool:
    """End a token for good; whether it was still good."""
    changed = await tx.execute(
        "UPDATE tokens SET revoked_at = :now WHERE id = :token_id AND revoked_at IS NULL",
        token_id=token_id,
        now=now,
    )
    return changed > 0


async def revoke_of_project(tx: Transaction, project_id: int, now: int) -> None:
    """End every token of a project for good."""
    await tx.execute(
        """
        UPDATE tokens
           SET revoked_at = :now
         WHERE project_id = :project_id
           AND revoked_at IS NULL
        """,
        project_id=project_id,
        now=now,
    )


async def revoke_logins(
    tx: Transaction, user_id: int, *, besides: int, prefixes: Collection[str], now: int
) -> int:
    """End a user's tokens whose names begin so, but not the row `besides`; how many."""
    return await tx.execute(
        """
        UPDATE tokens
           SET revoked_at = :now
         WHERE user_id = :user_id
           AND revoked_at IS NULL
           AND id <> :besides
           AND EXISTS (SELECT 1
                         FROM json_each(:prefixes)
                        WHERE substr(name, 1, length(value)) = value)
        """,
        user_id=user_id,
        besides=besides,
        prefixes=json.dumps(sorted(prefixes)),
        now=now,
    )


async def get(tx: Transaction, token_id: int) -> TokenFacts | None:
    """The token in this row, revoked and expired ones too."""
    row = await tx.fetch_one(f"{_FACTS} WHERE t.id = :token_id", token_id=token_id)
    return _facts(row) if row else None


async def page_of_user(
    tx: Transaction, user_id: int, *, before: int, limit: int
) -> list[TokenFacts]:
    """A user's tokens that were not revoked, newest first, those made before the row `before`."""
    rows = await tx.fetch_all(
        f"""
        {_FACTS}
         WHERE t.user_id = :user_id
           AND t.revoked_at IS NULL
           AND t.id < :before
         ORDER BY t.id DESC
         LIMIT :limit
        """,
        user_id=user_id,
        before=before,
        limit=limit,
    )
    return [_facts(row) for row in rows]


async def page_of_organisation(
    tx: Transaction, organisation_id: int, *, kinds: Collection[Kind], before: int, limit: int
) -> list[TokenFacts]:
    """An organisation's tokens that were not revoked, newest first, those before the row `before`.

    Those of its projects too; not those of its members, which are the members' own.
    """
    rows = await tx.fetch_all(
        f"""
        {_FACTS}
         WHERE t.organisation_id = :organisation_id
           AND t.kind IN (SELECT value FROM json_each(:kinds))
           AND t.revoked_at IS NULL
           AND t.id < :before
         ORDER BY t.id DESC
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        kinds=json.dumps(sorted(map(str, kinds))),
        before=before,
        limit=limit,
    )
    return [_facts(row) for row in rows]


async def count_of_organisation(
    tx: Transaction, organisation_id: int, *, limit: int, now: int
) -> int:
    """How many good tokens an organisation and its projects have, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM tokens
                 WHERE organisation_id = :organisation_id
                   AND revoked_at IS NULL
                   AND COALESCE(expires_at, 9223372036854775807) > :now
                 LIMIT :limit) AS good_tokens
        """,
        organisation_id=organisation_id,
        limit=limit,
        now=now,
    )
    return int(row[0] or 0) if row else 0


async def count_of_user(tx: Transaction, user_id: int, *, limit: int, now: int) -> int:
    """How many good tokens a user has, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM tokens
                 WHERE user_id = :user_id
                   AND revoked_at IS NULL
                   AND COALESCE(expires_at, 9223372036854775807) > :now
                 LIMIT :limit) AS good_tokens
        """,
        user_id=user_id,
        limit=limit,
        now=now,
    )
    return int(row[0] or 0) if row else 0


async def note_uses(tx: Transaction, token_ids: Collection[int], *, at: int) -> None:
    """Remember that tokens were last used then; an earlier time changes nothing."""
    await tx.execute(
        """
        UPDATE tokens
           SET last_used_at = :at
         WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
           AND (last_used_at IS NULL OR last_used_at < :at)
        """,
        at=at,
        ids=json.dumps([str(token_id) for token_id in sorted(token_ids)]),
    )


async def _credential(tx: Transaction, row: Row | None) -> Credential | None:
    if row is None:
        return None
    user_id, project_id = row[2], row[4]
    roles, ends = await _roles(tx, int(user_id)) if user_id is not None else ({}, {})
    return Credential(
        token_id=int(row[0] or 0),
        kind=Kind(str(row[1])),
        user_id=_optional(user_id),
        name=str(row[9]),
        is_administrator=bool(row[10]),
        roles=roles,
        role_ends=ends,
        organisation_id=_optional(row[3]),
        may_manage=bool(row[8]),
        project_id=_optional(project_id),
        linked=await projects.links(tx, int(project_id)) if project_id is not None else frozenset(),
        patterns=tuple(json.loads(str(row[5]))) if row[5] is not None else None,
        actions=frozenset(json.loads(str(row[6]))) if row[6] is not None else None,
        expires_at=_optional(row[7]),
    )


async def _roles(tx: Transaction, user_id: int) -> tuple[dict[int, Role], dict[int, int]]:
    """A user's roles by organisation, and when those end that do."""
    rows = await tx.fetch_all(
        """
        SELECT m.organisation_id, m.role, m.expires_at
          FROM memberships AS m
          JOIN organisations AS o ON o.id = m.organisation_id
         WHERE m.user_id = :user_id
           AND o.deleted_at IS NULL
        """,
        user_id=user_id,
    )
    roles = {int(row[0] or 0): Role(str(row[1])) for row in rows}
    return roles, {int(row[0] or 0): int(row[2]) for row in rows if row[2] is not None}


def _facts(row: Row) -> TokenFacts:
    return TokenFacts(
        id=int(row[0] or 0),
        kind=Kind(str(row[1])),
        name=str(row[2]),
        user_id=_optional(row[3]),
        user=_text(row[4]),
        organisation_id=_optional(row[5]),
        organisation_slug=_text(row[6]),
        project_id=_optional(row[7]),
        project_public_id=_text(row[8]),
        patterns=tuple(json.loads(str(row[9]))) if row[9] is not None else None,
        actions=frozenset(json.loads(str(row[10]))) if row[10] is not None else None,
        may_manage=bool(row[11]),
        created_at=int(row[12] or 0),
        created_by=_text(row[13]),
        expires_at=_optional(row[14]),
        last_used_at=_optional(row[15]),
        revoked_at=_optional(row[16]),
    )


def _text(value: object) -> str | None:
    return str(value) if value is not None else None


def _optional(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None
