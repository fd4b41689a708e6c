"""The audit log: appended in the transaction of the change that it records."""

import json

from entrepot.db.database import Row, Transaction, Value
from entrepot.model.errors import Conflict
from entrepot.model.ids import id_range
from entrepot.model.tenancy import AuditEvent

_COLUMNS = """id, at, organisation_id, action, object_kind, object_id, object_name,
               actor_kind, actor_name, user_id, token_id, address, request_id, details"""


async def add(tx: Transaction, event: AuditEvent) -> None:
    """Append one event; again after an unknown COMMIT. Raises Conflict."""
    changed = await tx.execute(
        f"""
        INSERT INTO audit_events ({_COLUMNS})
        VALUES (:id, :at, :organisation_id, :action, :object_kind, :object_id, :object_name,
                :actor_kind, :actor_name, :user_id, :token_id, :address, :request_id, :details)
        ON CONFLICT (id) DO UPDATE SET id = excluded.id
         WHERE audit_events.request_id = excluded.request_id
           AND audit_events.action = excluded.action
        """,
        id=event.id,
        at=event.at,
        organisation_id=event.organisation_id,
        action=event.action,
        object_kind=event.object_kind,
        object_id=event.object_id,
        object_name=event.object_name,
        actor_kind=event.actor_kind,
        actor_name=event.actor_name,
        user_id=event.user_id,
        token_id=event.token_id,
        address=event.address,
        request_id=event.request_id,
        details=json.dumps(event.details, ensure_ascii=False),
    )
    if not changed:
        raise Conflict("another event has this id")


async def page(
    tx: Transaction,
    organisation_id: int | None,
    *,
    action: str | None,
    actor: str | None,
    object_name: str | None,
    since: int,
    until: int,
    before: int,
    limit: int,
) -> list[AuditEvent]:
    """Events of an organisation, or of the installation itself, newest first, before an id."""
    where = "organisation_id = :organisation_id" if organisation_id else "organisation_id IS NULL"
    filters = [
        ("action", action, "action = :action"),
        ("actor", actor, "actor_name = :actor"),
        ("object_name", object_name, "object_name = :object_name"),
    ]
    values: dict[str, Value] = {name: value for name, value, _ in filters if value is not None}
    conditions = "".join(f" AND {sql}" for _, value, sql in filters if value is not None)
    if organisation_id:
        values["organisation_id"] = organisation_id
    first, end = id_range(since, until)
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM audit_events
         WHERE {where}
           AND id >= :first
           AND id < :before
           AND at >= :since
           AND at < :until{conditions}
         ORDER BY id DESC
         LIMIT :limit
        """,  # conditions of our own, chosen by which filters were given
        first=first,
        before=min(before, end),
        since=since,
        until=until,
        limit=limit,
        **values,
    )
    return [_event(row) for row in rows]


async def forget_before(tx: Transaction, moment: int, *, limit: int) -> int:
    """Remove up to `limit` events older than `moment`; how many."""
    return await tx.execute(
        """
        DELETE FROM audit_events
         WHERE id IN (SELECT id FROM audit_events WHERE at < :moment ORDER BY at LIMIT :limit)
        """,
        moment=moment,
        limit=limit,
    )


def _event(row: Row) -> AuditEvent:
    return AuditEvent(
        id=int(row[0] or 0),
        at=int(row[1] or 0),
        organisation_id=int(row[2]) if row[2] is not None else None,
        action=str(row[3]),
        object_kind=str(row[4]),
        object_id=str(row[5]),
        object_name=str(row[6]),
        actor_kind=str(row[7]),
        actor_name=str(row[8]),
        user_id=int(row[9]) if row[9] is not None else None,
        token_id=int(row[10]) if row[10] is not None else None,
        address=str(row[11]),
        request_id=str(row[12]),
        details=json.loads(str(row[13])),
    )
