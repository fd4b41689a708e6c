"""The audit log: JSON by the page, CSV by the stream."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field

from entrepot.api.call import (
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    Window,
    declares,
    moment,
    page_of,
)
from entrepot.model import tenancy
from entrepot.model.access import Action, Actor
from entrepot.model.clock import SECOND
from entrepot.model.ids import to_text
from entrepot.services.audit_log import AuditFilter, AuditLog

router = APIRouter(tags=["audit"])

_BATCH = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class AuditObject(Shown):
    """What it was done to."""

    kind: str
    id: str
    name: str


class AuditActor(Shown):
    """Who did it: a user's name, or the name of a token that is no user's."""

    kind: str
    name: str


class AuditEvent(Shown):
    """Who did what, on what, when, from where, by which credential."""

    id: str
    at: datetime
    action: str
    object: AuditObject
    actor: AuditActor
    token: str | None = Field(description="id of the credential")
    address: str
    request_id: str
    details: dict[str, Any]


def not_a_number(value: object) -> object:
    """A year alone would be taken for seconds since 1970."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+", value):
        raise ValueError("a time is written like 2026-11-21T10:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(not_a_number)]


def _filter(
    action: Annotated[str | None, Query(max_length=100, description="`token.created`")] = None,
    actor: Annotated[
        str | None, Query(max_length=100, description="name of a user, or of a token")
    ] = None,
    object: Annotated[  # noqa: A002  # the parameter's name
        str | None, Query(max_length=300, description="name of what it was done to")
    ] = None,
    since: Annotated[Moment | None, Query(description="from then on")] = None,
    until: Annotated[Moment | None, Query(description="until before then")] = None,
) -> AuditFilter:
    return AuditFilter(
        action=action,
        actor=actor,
        object_name=object,
        since=_microseconds(since, 0),
        until=_microseconds(until, 2**62),
    )


# The other form of the answer, for the OpenAPI document.
_AS_TABLE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}}
}
Wanted = Annotated[AuditFilter, Depends(_filter)]
Format = Annotated[
    Literal["json", "csv"],
    Query(alias="format", description="csv: every event behind the cursor, as a download"),
]


@router.get("/organisations/{organisation}/audit", responses=_AS_TABLE, **declares(Action.AUDIT))
async def list_events(
    services: Services,
    caller: Caller,
    organisation: str,
    window: Paging,
    wanted: Wanted,
    form: Format = "json",
) -> Page[AuditEvent]:
    """What was done in an organisation, newest first. With `format=csv` a table of all of it."""
    page: Page[AuditEvent] = await _answer(
        services.audit_log, caller, organisation, window, wanted, form
    )
    return page


@router.get("/audit", responses=_AS_TABLE, **declares(Action.ADMINISTER))
async def list_server_events(
    services: Services, caller: Caller, window: Paging, wanted: Wanted, form: Format = "json"
) -> Page[AuditEvent]:
    """What was done to the server itself, newest first; for server administrators."""
    page: Page[AuditEvent] = await _answer(services.audit_log, caller, None, window, wanted, form)
    return page


async def _answer(
    log: AuditLog,
    caller: Actor,
    organisation: str | None,
    window: Window,
    wanted: AuditFilter,
    form: str,
) -> Any:  # noqa: ANN401  # the framework sends a response as it is
    before = window.after_id()
    limit = _BATCH if form == "csv" else window.limit
    found = await log.page(caller, organisation, wanted, before=before, limit=limit)
    if form == "csv":
        lines = _lines(log, caller, organisation, wanted, found)
        headers = {"content-disposition": 'attachment; filename="audit.csv"'}
        return StreamingResponse(lines, media_type="text/csv", headers=headers)
    return page_of(found, _shown, lambda event: to_text(event.id))


_COLUMNS = (
    "at,action,object_kind,object_id,object_name,actor_kind,actor_name,token,address,request_id,"
    "details"
)


async def _lines(
    log: AuditLog,
    caller: Actor,
    organisation: str | None,
    wanted: AuditFilter,
    first: tuple[list[tenancy.AuditEvent], bool],
) -> AsyncIterator[str]:
    """The events as CSV, a batch at a time: no request takes them all into memory."""
    yield f"{_COLUMNS}\r\n"
    events, has_more = first
    while events:
        text = io.StringIO()
        csv.writer(text).writerows(_row(event) for event in events)
        yield text.getvalue()
        if not has_more:
            return
        events, has_more = await log.page(
            caller, organisation, wanted, before=events[-1].id, limit=_BATCH
        )


def _row(event: tenancy.AuditEvent) -> list[str]:
    shown = _shown(event)
    cells = [
        shown.at.isoformat(),
        shown.action,
        shown.object.kind,
        shown.object.id,
        shown.object.name,
        shown.actor.kind,
        shown.actor.name,
        shown.token or "",
        shown.address,
        shown.request_id,
        json.dumps(shown.details, ensure_ascii=False),
    ]
    # A spreadsheet would run a name that begins like a formula (OWASP, CSV injection).
    return [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]


def _shown(event: tenancy.AuditEvent) -> AuditEvent:
    return AuditEvent(
        id=to_text(event.id),
        at=moment(event.at),
        action=event.action,
        object=AuditObject(kind=event.object_kind, id=event.object_id, name=event.object_name),
        actor=AuditActor(kind=event.actor_kind, name=event.actor_name),
        token=to_text(event.token_id) if event.token_id else None,
        address=event.address,
        request_id=event.request_id,
        details=dict(event.details),
    )


def _microseconds(when: datetime | None, default: int) -> int:
    if when is None:
        return default
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * SECOND)
