"""Memberships: who belongs to an organisation, in which role."""

import json
from collections.abc import Iterable

from entrepot.db.database import Row, Transaction
from entrepot.model.access import Role
from entrepot.model.tenancy import Member

_SELECT = """
        SELECT m.user_id, u.name, m.role, m.created_at, m.expires_at, m.version
          FROM memberships AS m
          JOIN users AS u ON u.id = m.user_id
         WHERE m.organisation_id = :organisation_id
"""


async def find(tx: Transaction, organisation_id: int, user: str) -> Member | None:
    """The member of this name, whose membership may have expired."""
    row = await tx.fetch_one(
        f"{_SELECT} AND u.name = :user", organisation_id=organisation_id, user=user
    )
    return _member(row) if row else None


async def get(tx: Transaction, organisation_id: int, user_id: int) -> Member | None:
    """This user's membership, which may have expired; None for a disabled user."""
    row = await tx.fetch_one(
        f"{_SELECT} AND m.user_id = :user_id AND u.disabled_at IS NULL",
        organisation_id=organisation_id,
        user_id=user_id,
    )
    return _member(row) if row else None


async def page(
    tx: Transaction, organisation_id: int, *, after: str, limit: int, now: int
) -> list[Member]:
    """Members by name, those after `after`; not those whose membership has ended."""
    rows = await tx.fetch_all(
        f"""{_SELECT}
           AND u.name > :after
           AND (m.expires_at IS NULL OR m.expires_at > :now)
         ORDER BY u.name
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        after=after,
        limit=limit,
        now=now,
    )
    return [_member(row) for row in rows]


async def put(
    tx: Transaction,
    *,
    organisation_id: int,
    user_id: int,
    role: Role,
    now: int,
    expires_at: int | None = None,
) -> None:
    """Make a user a member, or change the role that the user has."""
    await tx.execute(
        """
        INSERT INTO memberships (organisation_id, user_id, role, created_at, expires_at)
        VALUES (:organisation_id, :user_id, :role, :now, :expires_at)
        ON CONFLICT (organisation_id, user_id) DO UPDATE
           SET role = excluded.role,
               expires_at = excluded.expires_at,
               version = memberships.version + 1
        """,
        organisation_id=organisation_id,
        user_id=user_id,
        role=str(role),
        now=now,
        expires_at=expires_at,
    )


async def put_at_least(
    tx: Transaction,
    *,
    organisation_id: int,
    user_id: int,
    role: Role,
    lower: Iterable[Role],
    now: int,
) -> None:
    """Make a user a member for good, or raise a role that is one of `lower`; never less.

    A membership that ends by itself gives way, whatever its role.
    """
    await tx.execute(
        """
        INSERT INTO memberships (organisation_id, user_id, role, created_at)
        VALUES (:organisation_id, :user_id, :role, :now)
        ON CONFLICT (organisation_id, user_id) DO UPDATE
           SET role = excluded.role,
               expires_at = NULL,
               version = memberships.version + 1
         WHERE memberships.expires_at IS NOT NULL
            OR memberships.role IN (SELECT value FROM json_each(:lower))
        """,
        organisation_id=organisation_id,
        user_id=user_id,
        role=str(role),
        lower=json.dumps([str(role) for role in lower]),
        now=now,
    )


async def set_role(
    tx: Transaction, organisation_id: int, user_id: int, role: Role, *, version: int
) -> bool:
    """Give a member another role, for good; False when the row is not of this version."""
    changed = await tx.execute(
        """
        UPDATE memberships
           SET role = :role,
               expires_at = NULL,
               version = version + 1
         WHERE organisation_id = :organisation_id
           AND user_id = :user_id
           AND version = :version
        """,
        organisation_id=organisation_id,
        user_id=user_id,
        role=str(role),
        version=version,
    )
    return changed > 0


async def delete(tx: Transaction, organisation_id: int, user_id: int, *, version: int) -> bool:
    """Take a user out of an organisation; False when the row is not of this version."""
    rows = await tx.execute(
        """
        DELETE FROM memberships
         WHERE organisation_id = :organisation_id
           AND user_id = :user_id
           AND version = :version
        """,
        organisation_id=organisation_id,
        user_id=user_id,
        version=version,
    )
    return rows > 0


async def lock_owners(tx: Transaction, organisation_id: int) -> frozenset[int]:
    """Lock the owners' memberships until this transaction ends; the users who own it for good.

    Whoever takes an owner away asks first, so that two who go at once do not leave none.
    """
    rows = await tx.fetch_all(
        """
        UPDATE memberships
           SET role = role
         WHERE organisation_id = :organisation_id
           AND role = 'owner'
           AND expires_at IS NULL
           AND user_id IN (SELECT id FROM users WHERE disabled_at IS NULL)
        RETURNING user_id
        """,
        organisation_id=organisation_id,
    )
    return frozenset(int(row[0] or 0) for row in rows)


def _member(row: Row) -> Member:
    return Member(
        user_id=int(row[0] or 0),
        user=str(row[1]),
        role=Role(str(row[2])),
        since=int(row[3] or 0),
        expires_at=int(row[4]) if row[4] is not None else None,
        version=int(row[5] or 0),
    )
