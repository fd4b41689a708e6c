"""What every route of the management API gets: who asks, the services, paging and versions."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from entrepot.api.management import Management
from entrepot.model.access import Action, Actor
from entrepot.model.errors import FieldInvalid, NotFound
from entrepot.model.ids import from_text

S = TypeVar("S")
T = TypeVar("T")

ACTION = "x-entrepot-action"
_PAGE, _MOST = 100, 1_000


def declares(action: Action, *, creates: bool = False) -> dict[str, Any]:
    """What every route says of itself: the action that it needs.

    `creates` answers 201 and takes an Idempotency-Key. How it can fail, api/description.py says.
    """
    extra: dict[str, Any] = {ACTION: str(action)}
    if creates:
        extra["parameters"] = [_IDEMPOTENCY_KEY]
    said: dict[str, Any] = {"openapi_extra": extra}
    return said | {"status_code": 201} if creates else said


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "made up by you, without spaces: a repeated request with the same one gets the "
    "first answer again, for a day",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


def _management(request: Request) -> Management:
    management: Management = request.app.state.management
    return management


def _actor(request: Request) -> Actor:
    actor: Actor = request.scope["entrepot.actor"]
    return actor


def _base(request: Request) -> str:
    base: str = request.scope["entrepot.base"]
    return base


Services = Annotated[Management, Depends(_management)]
Caller = Annotated[Actor, Depends(_actor)]
# `scheme://host` as the caller can reach us.
Base = Annotated[str, Depends(_base)]


class Body(BaseModel):
    """A body: no other fields than these, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Shown(BaseModel):
    """Something in an answer."""

    # One schema describes a field by the name that it has on the wire; `from` is no name in Python.
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Page(BaseModel, Generic[T]):
    """A part of a list. `next` is the `cursor` of the part that follows, if one does."""

    model_config = ConfigDict(populate_by_name=True)

    items: list[T]
    next: str | None = Field(default=None, description="`cursor` of the part that follows")


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: up to `limit` entries behind the key that the cursor holds."""

    after: str
    limit: int

    def after_id(self) -> int:
        """The key as a row id, for lists that run from the newest back."""
        if not self.after:
            return 1 << 62
        found = from_text(self.after)
        if found is None:
            raise FieldInvalid(_NO_CURSOR, field="cursor")
        return found


def _window(
    limit: Annotated[int, Query(ge=1, le=_MOST, description="entries at most")] = _PAGE,
    cursor: Annotated[
        str | None, Query(max_length=1_024, description="`next` of the part before")
    ] = None,
) -> Window:
    if cursor is None:
        return Window("", limit)
    try:
        after = base64.urlsafe_b64decode(cursor.encode()).decode()
    except (binascii.Error, ValueError) as error:
        raise FieldInvalid(_NO_CURSOR, field="cursor") from error
    if "\0" in after:
        raise FieldInvalid(_NO_CURSOR, field="cursor")
    return Window(after, limit)


_NO_CURSOR = "this is no cursor of ours; take `next` of the answer before, as it is"
Paging = Annotated[Window, Depends(_window)]


def page_of(
    part: tuple[list[S], bool], shown: Callable[[S], T], key: Callable[[S], str]
) -> Page[T]:
    """A page of what a service found; by the key of the last entry the next page is asked for."""
    found, has_more = part
    return Page(
        items=[shown(each) for each in found],
        next=cursor_of(key(found[-1])) if has_more else None,
    )


def cursor_of(key: str) -> str:
    """The cursor of the page behind a key."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def _version(
    if_match: Annotated[
        str | None,
        Header(description="the ETag that you read: 412 if somebody changed it since"),
    ] = None,
) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004  # 63 bits
        return -1  # an ETag that was never ours: nothing has it
    return int(text)


Version = Annotated[int | None, Depends(_version)]


def tag(response: Response, version: int) -> None:
    """Set the ETag."""
    response.headers["etag"] = f'"{version}"'


def restorable_until(response: Response, until: int) -> None:
    """Say until when what was just deleted can be restored."""
    text = moment(until).isoformat(timespec="seconds").replace("+00:00", "Z")
    response.headers["restorable-until"] = text


def moment(microseconds: int) -> datetime:
    """A time as answers show it."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def moment_or_none(microseconds: int | None) -> datetime | None:
    """A time that may not be set."""
    return None if microseconds is None else moment(microseconds)


def row_of(text: str, what: str) -> int:
    """The row of an id in a path. Raises NotFound for what is no id."""
    found = from_text(text)
    if found is None:
        raise NotFound(f"no such {what}, or none that you may see")
    return found
