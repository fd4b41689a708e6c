"""Upstream registries of organisations: what they are, and the sealed credential of each."""

import json

from entrepot.db.database import Row, Transaction
from entrepot.model.upstreams import AuthKind, Challenge, Handshake, Upstream

_COLUMNS = """u.id, u.organisation_id, o.slug, u.name, u.preset, u.origin, u.auth_kind,
               u.auth_name, u.external_id, u.challenge, u.realm, u.service, u.checked_at,
               u.check_error, u.member_patterns, u.credential_version, u.created_at, u.version"""
_FROM = """
          FROM upstreams AS u
          JOIN organisations AS o ON o.id = u.organisation_id
         WHERE u.deleted_at IS NULL
           AND o.deleted_at IS NULL
"""


async def get(tx: Transaction, upstream_id: int) -> Upstream | None:
    """The upstream in this row."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} {_FROM} AND u.id = :upstream_id", upstream_id=upstream_id
    )
    return _upstream(row) if row else None


async def get_with_secret(tx: Transaction, upstream_id: int) -> tuple[Upstream, str | None] | None:
    """The upstream in this row and its sealed credential, of one version."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS}, u.sealed {_FROM} AND u.id = :upstream_id", upstream_id=upstream_id
    )
    if row is None:
        return None
    return _upstream(row[:-1]), str(row[-1]) if row[-1] is not None else None


async def find(tx: Transaction, organisation_id: int, name: str) -> Upstream | None:
    """The upstream of an organisation that has this name."""
    row = await tx.fetch_one(
        f"""
        SELECT {_COLUMNS}
        {_FROM}
           AND u.organisation_id = :organisation_id
           AND u.name = :name
        """,
        organisation_id=organisation_id,
        name=name,
    )
    return _upstream(row) if row else None


async def page(
    tx: Transaction, organisation_id: int, *, for_members: bool, after: str, limit: int
) -> list[Upstream]:
    """Upstreams of an organisation by name, those after `after`; all, or what members may use."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
        {_FROM}
           AND u.organisation_id = :organisation_id
           AND u.name > :after
           AND (:for_members = 0 OR u.member_patterns IS NOT NULL)
         ORDER BY u.name
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        for_members=int(for_members),
        after=after,
        limit=limit,
    )
    return [_upstream(row) for row in rows]


async def count(tx: Transaction, organisation_id: int, *, limit: int) -> int:
    """How many upstreams an organisation has, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM upstreams
                 WHERE organisation_id = :organisation_id
                   AND deleted_at IS NULL
                 LIMIT :limit) AS upstreams_there
        """,
        organisation_id=organisation_id,
        limit=limit,
    )
    return int(row[0] or 0) if row else 0


async def add(tx: Transaction, new: Upstream, sealed: str | None) -> None:
    """Create an upstream. Raises Conflict."""
    handshake = new.handshake
    await tx.execute(
        """
        INSERT INTO upstreams (id, organisation_id, name, preset, origin, auth_kind, auth_name,
                               external_id, sealed, challenge, realm, service, checked_at,
                               check_error, member_patterns, credential_version, created_at,
                               version)
        VALUES (:id, :organisation_id, :name, :preset, :origin, :auth_kind, :auth_name,
                :external_id, :sealed, :challenge, :realm, :service, :checked_at,
                :check_error, :member_patterns, :credential_version, :created_at, :version)
        """,
        id=new.id,
        organisation_id=new.organisation_id,
        name=new.name,
        preset=new.preset,
        origin=new.origin,
        auth_kind=str(new.auth_kind),
        auth_name=new.auth_name,
        external_id=new.external_id,
        sealed=sealed,
        challenge=str(handshake.challenge) if handshake else None,
        realm=handshake.realm if handshake else None,
        service=handshake.service if handshake else None,
        checked_at=new.checked_at,
        check_error=new.check_error,
        member_patterns=json.dumps(new.member_patterns) if new.member_patterns else None,
        credential_version=new.credential_version,
        created_at=new.created_at,
        version=new.version,
    )


async def update(tx: Transaction, changed: Upstream) -> bool:
    """Store all but the credential, as the next version; False when another change came first."""
    handshake = changed.handshake
    rows = await tx.execute(
        """
        UPDATE upstreams
           SET name = :name,
               origin = :origin,
               challenge = :challenge,
               realm = :realm,
               service = :service,
               checked_at = :checked_at,
               check_error = :check_error,
               member_patterns = :member_patterns,
               version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=changed.id,
        name=changed.name,
        origin=changed.origin,
        challenge=str(handshake.challenge) if handshake else None,
        realm=handshake.realm if handshake else None,
        service=handshake.service if handshake else None,
        checked_at=changed.checked_at,
        check_error=changed.check_error,
        member_patterns=json.dumps(changed.member_patterns) if changed.member_patterns else None,
        version=changed.version,
    )
    return rows > 0


async def rotate(tx: Transaction, changed: Upstream, sealed: str | None) -> None:
    """Store another credential, and how it is named; after `update` in the same transaction."""
    await tx.execute(
        """
        UPDATE upstreams
           SET auth_kind = :auth_kind,
               auth_name = :auth_name,
               external_id = :external_id,
               sealed = :sealed,
               credential_version = credential_version + 1
         WHERE id = :id
           AND organisation_id = :organisation_id
        """,
        id=changed.id,
        organisation_id=changed.organisation_id,
        auth_kind=str(changed.auth_kind),
        auth_name=changed.auth_name,
        external_id=changed.external_id,
        sealed=sealed,
    )


async def note_check(tx: Transaction, checked: Upstream) -> None:
    """Store how a check went. It is no change by people, and so no version."""
    handshake = checked.handshake
    await tx.execute(
        """
        UPDATE upstreams
           SET challenge = :challenge,
               realm = :realm,
               service = :service,
               checked_at = :checked_at,
               check_error = :check_error
         WHERE id = :id
           AND organisation_id = :organisation_id
        """,
        id=checked.id,
        organisation_id=checked.organisation_id,
        challenge=str(handshake.challenge) if handshake else None,
        realm=handshake.realm if handshake else None,
        service=handshake.service if handshake else None,
        checked_at=checked.checked_at,
        check_error=checked.check_error,
    )


async def delete(tx: Transaction, upstream: Upstream, *, now: int) -> bool:
    """Mark an upstream as gone and forget its credential; False when another change came first."""
    rows = await tx.execute(
        """
        UPDATE upstreams
           SET deleted_at = :now, sealed = NULL, version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=upstream.id,
        version=upstream.version,
        now=now,
    )
    return rows > 0


async def lock(tx: Transaction, upstream_id: int) -> bool:
    """Let nobody change or delete an upstream until this ends; False if somebody just did."""
    rows = await tx.execute(
        """
        UPDATE upstreams
           SET version = version
         WHERE id = :upstream_id
           AND deleted_at IS NULL
        """,
        upstream_id=upstream_id,
    )
    return rows > 0


async def users(tx: Transaction, upstream: Upstream, *, limit: int) -> list[str]:
    """What of its organisation uses an upstream: up to `limit` repositories and mirrors, named."""
    rows = await tx.fetch_all(
        """
        SELECT found.name
          FROM (SELECT 'repository ' || r.path AS name
                  FROM repositories AS r
                 WHERE r.upstream_id = :upstream_id
                   AND r.organisation_id = :organisation_id
                   AND r.deleted_at IS NULL
                 UNION ALL
                SELECT 'mirror ' || CASE WHEN n.prefix = '' THEN '/' ELSE n.prefix END
                  FROM namespace_mirrors AS n
                 WHERE n.upstream_id = :upstream_id
                   AND n.organisation_id = :organisation_id
                   AND n.deleted_at IS NULL) AS found
         ORDER BY found.name
         LIMIT :limit
        """,
        upstream_id=upstream.id,
        organisation_id=upstream.organisation_id,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


def _upstream(row: Row) -> Upstream:
    return Upstream(
        id=int(row[0] or 0),
        organisation_id=int(row[1] or 0),
        organisation_slug=str(row[2]),
        name=str(row[3]),
        preset=str(row[4]),
        origin=str(row[5]),
        auth_kind=AuthKind(str(row[6])),
        auth_name=str(row[7]),
        external_id=str(row[8]),
        handshake=(
            Handshake(Challenge(str(row[9])), str(row[10] or ""), str(row[11] or ""))
            if row[9] is not None
            else None
        ),
        checked_at=int(row[12]) if row[12] is not None else None,
        check_error=str(row[13]) if row[13] is not None else None,
        member_patterns=tuple(json.loads(str(row[14]))) if row[14] is not None else (),
        credential_version=int(row[15] or 0),
        created_at=int(row[16] or 0),
        version=int(row[17] or 0),
    )
