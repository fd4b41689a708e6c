"""The audit log: every change of state, in the change's own transaction."""

from entrepot.db import audit
from entrepot.db.database import Transaction
from entrepot.model.access import Actor, Kind
from entrepot.model.repeats import repeatable_id
from entrepot.model.tenancy import AuditEvent, Change


async def record(tx: Transaction, actor: Actor, change: Change, *, now: int) -> None:
    """Append what `actor` does. If it cannot be written, the change is not made either."""
    credential = actor.credential
    is_stored = credential.kind not in {Kind.ANONYMOUS, Kind.OPERATOR}
    await audit.add(
        tx,
        AuditEvent(
            id=repeatable_id(),
            at=now,
            organisation_id=change.organisation_id,
            action=change.action,
            object_kind=change.object_kind,
            object_id=change.object_id,
            object_name=change.object_name,
            actor_kind=str(credential.kind),
            actor_name=credential.name or str(credential.kind),
            user_id=credential.user_id,
            token_id=credential.token_id if is_stored else None,
            address=actor.origin.address,
            request_id=actor.origin.request_id,
            details=change.details,
        ),
    )
