"""Invitations: open offers to become a member. Only the SHA-256 of their secrets is known here."""

from entrepot.db.database import Row, Transaction
from entrepot.model.access import Role
from entrepot.model.tenancy import Invitation

# An invitation is open while nobody accepted or revoked it and it has not expired.
_OPEN = """i.accepted_at IS NULL
           AND i.revoked_at IS NULL
           AND i.expires_at > :now"""
_SELECT = """
        SELECT i.id, i.organisation_id, i.role, i.note, i.created_by, COALESCE(u.name, t.name, ''),
               i.created_at, i.expires_at
          FROM invitations AS i
          LEFT JOIN users AS u ON u.id = i.created_by
          LEFT JOIN tokens AS t ON t.id = i.created_by
"""


async def add(tx: Transaction, new: Invitation, *, invitation_hash: str) -> bool:
    """Keep a new invitation; False when this very row is there already."""
    added = await tx.execute(
        """
        INSERT INTO invitations (id, organisation_id, role, hash, note, created_by, created_at,
                                 expires_at)
        VALUES (:id, :organisation_id, :role, :hash, :note, :created_by, :created_at, :expires_at)
        ON CONFLICT (id) DO NOTHING
        """,
        id=new.id,
        organisation_id=new.organisation_id,
        role=str(new.role),
        hash=invitation_hash,
        note=new.note,
        created_by=new.created_by,
        created_at=new.created_at,
        expires_at=new.expires_at,
    )
    return added > 0


async def page(
    tx: Transaction, organisation_id: int, *, before: int, limit: int, now: int
) -> list[Invitation]:
    """Open invitations, newest first, those made before the row `before`."""
    rows = await tx.fetch_all(
        f"""
        {_SELECT}
         WHERE i.organisation_id = :organisation_id
           AND {_OPEN}
           AND i.id < :before
         ORDER BY i.id DESC
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        before=before,
        limit=limit,
        now=now,
    )
    return [_invitation(row) for row in rows]


async def count_open(tx: Transaction, organisation_id: int, *, limit: int, now: int) -> int:
    """How many invitations of an organisation are open, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM invitations AS i
                 WHERE i.organisation_id = :organisation_id
                   AND i.accepted_at IS NULL
                   AND i.revoked_at IS NULL
                   AND i.expires_at > :now
                 LIMIT :limit) AS open_invitations
        """,
        organisation_id=organisation_id,
        limit=limit,
        now=now,
    )
    return int(row[0] or 0) if row else 0


async def find(
    tx: Transaction, organisation_id: int, invitation_id: int, *, now: int
) -> Invitation | None:
    """The open invitation in this row."""
    row = await tx.fetch_one(
        f"""
        {_SELECT}
         WHERE i.id = :invitation_id
           AND i.organisation_id = :organisation_id
           AND {_OPEN}
        """,
        invitation_id=invitation_id,
        organisation_id=organisation_id,
        now=now,
    )
    return _invitation(row) if row else None


async def is_open(tx: Transaction, invitation_hash: str, *, now: int) -> bool:
    """Whether the invitation whose secret has this SHA-256 is open."""
    row = await tx.fetch_one(
        f"SELECT 1 FROM invitations AS i WHERE i.hash = :hash AND {_OPEN}",
        hash=invitation_hash,
        now=now,
    )
    return row is not None


async def take(tx: Transaction, invitation_hash: str, *, now: int) -> Invitation | None:
    """Use up the open invitation whose secret has this SHA-256.

    Of many who try at once one gets it: the others wait for its transaction, and find it used.
    """
    row = await tx.fetch_one(
        f"""
        UPDATE invitations AS i
           SET accepted_at = :now
         WHERE i.hash = :hash
           AND {_OPEN}
        RETURNING id
        """,
        hash=invitation_hash,
        now=now,
    )
    if row is None:
        return None
    found = await tx.fetch_one(f"{_SELECT} WHERE i.id = :id", id=row[0])
    return _invitation(found) if found else None


async def find_taken(
    tx: Transaction, invitation_hash: str, *, user_id: int, at: int
) -> Invitation | None:
    """The invitation of this secret, if this user took it at that moment."""
    row = await tx.fetch_one(
        f"""
        {_SELECT}
         WHERE i.hash = :hash
           AND i.accepted_by = :user_id
           AND i.accepted_at = :at
        """,
        hash=invitation_hash,
        user_id=user_id,
        at=at,
    )
    return _invitation(row) if row else None


async def set_taker(tx: Transaction, invitation_id: int, user_id: int) -> None:
    """Remember who joined by an invitation that was taken."""
    await tx.execute(
        "UPDATE invitations SET accepted_by = :user_id WHERE id = :invitation_id",
        user_id=user_id,
        invitation_id=invitation_id,
    )


async def revoke(tx: Transaction, invitation_id: int, *, now: int) -> bool:
    """End an invitation that nobody accepted; whether it was still open."""
    changed = await tx.execute(
        f"""
        UPDATE invitations AS i
           SET revoked_at = :now
         WHERE i.id = :invitation_id
           AND {_OPEN}
        """,
        invitation_id=invitation_id,
        now=now,
    )
    return changed > 0


def _invitation(row: Row) -> Invitation:
    return Invitation(
        id=int(row[0] or 0),
        organisation_id=int(row[1] or 0),
        role=Role(str(row[2])),
        note=str(row[3]),
        created_by=int(row[4] or 0),
        inviter=str(row[5]),
        created_at=int(row[6] or 0),
        expires_at=int(row[7] or 0),
    )
