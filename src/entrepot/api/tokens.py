"""Tokens: shown once, listed without their secrets, revoked for good."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from entrepot.api.call import (
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    declares,
    moment,
    moment_or_none,
    page_of,
    row_of,
)
from entrepot.model.access import Action, Kind
from entrepot.model.clock import SECOND
from entrepot.model.ids import to_text
from entrepot.model.tenancy import TokenFacts
from entrepot.services.tokens import TokenRequest

router = APIRouter(tags=["tokens"])

Word = Literal["pull", "push", "delete", "manage"]
Name = Annotated[str, Field(max_length=100, description="what it is for")]
Lifetime = Annotated[int | None, Field(ge=60, le=316_224_000, description="seconds; null: no end")]
Patterns = Annotated[
    list[str] | None,
    Field(description="paths of repositories; `*` within a component, `**` across: `team/**`"),
]
Actions = Annotated[list[Word] | None, Field(description="null: all that its kind may")]


class Token(Shown):
    """A token without its secret, which nobody has."""

    id: str
    kind: Literal["user", "org", "project", "pull"]
    name: str
    user: str | None = Field(description="whose, for user tokens")
    organisation: str | None = Field(description="slug, for all others")
    project: str | None
    patterns: list[str] | None
    actions: list[str] | None
    may_manage: bool
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="up to a minute late")
    revoked_at: datetime | None


class CreatedToken(Token):
    """A token that was just made, with its secret."""

    token: str = Field(description="the secret; it is shown this once")


class NewUserToken(Body):
    """A token of your own."""

    name: Name = ""
    expires_in: Lifetime = None
    patterns: Patterns = None
    actions: Actions = None


class NewToken(NewUserToken):
    """A token of an organisation."""

    kind: Literal["org", "project", "pull"]
    project: Annotated[str | None, Field(description="id, for project and pull tokens")] = None
    may_manage: Annotated[
        bool, Field(description="an organisation token that may do what an administrator may")
    ] = False


@router.get("/tokens", **declares(Action.LOGIN))
async def list_own_tokens(services: Services, caller: Caller, window: Paging) -> Page[Token]:
    """Your own user tokens that were not revoked, newest first."""
    found = await services.tokens.page_of_user(caller, before=window.after_id(), limit=window.limit)
    return page_of(found, _shown, _key)


@router.post("/tokens", **declares(Action.LOGIN, creates=True))
async def create_own_token(services: Services, caller: Caller, new: NewUserToken) -> CreatedToken:
    """Make a user token: it may what you may, within its limits."""
    return await _create(services, caller, TokenRequest(Kind.USER, **_limits(new)))


@router.get("/organisations/{organisation}/tokens", **declares(Action.CREATE_PULL_TOKEN))
async def list_tokens(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Token]:
    """An organisation's tokens that were not revoked, newest first.

    Members see those of projects and for pulling, administrators all. User tokens are their users'.
    """
    found = await services.tokens.page_of_organisation(
        caller, organisation, before=window.after_id(), limit=window.limit
    )
    return page_of(found, _shown, _key)


@router.post(
    "/organisations/{organisation}/tokens", **declares(Action.CREATE_PULL_TOKEN, creates=True)
)
async def create_token(
    services: Services, caller: Caller, organisation: str, new: NewToken
) -> CreatedToken:
    """Make a token of an organisation or of one of its projects.

    Organisation tokens take an administrator. A pull token lives for an hour unless it says
    otherwise.
    """
    request = TokenRequest(
        Kind(new.kind),
        organisation,
        project=new.project,
        may_manage=new.may_manage,
        **_limits(new),
    )
    return await _create(services, caller, request)


@router.get("/tokens/{token}", **declares(Action.LOGIN))
async def show_token(services: Services, caller: Caller, token: str) -> Token:
    """One token: the one in use, your own, or one that you could have made."""
    return _shown(await services.tokens.get(caller, row_of(token, "token")))


@router.delete("/tokens/{token}", status_code=204, **declares(Action.LOGIN))
async def revoke_token(services: Services, caller: Caller, token: str) -> None:
    """End a token for good; it stops working everywhere within 10 seconds."""
    await services.tokens.revoke(caller, row_of(token, "token"))


async def _create(services: Services, caller: Caller, request: TokenRequest) -> CreatedToken:
    facts, secret = await services.tokens.create(caller, request)
    return CreatedToken(**facts_of(facts), token=secret)


def _limits(new: NewUserToken) -> dict[str, Any]:
    return {
        "name": new.name,
        "expires_in": new.expires_in * SECOND if new.expires_in is not None else None,
        "patterns": tuple(new.patterns) if new.patterns is not None else None,
        "actions": frozenset(new.actions) if new.actions is not None else None,
    }


def _shown(token: TokenFacts) -> Token:
    return Token(**facts_of(token))


def _key(token: TokenFacts) -> str:
    return to_text(token.id)


def facts_of(token: TokenFacts) -> dict[str, Any]:
    """The fields of `Token`."""
    return {
        "id": to_text(token.id),
        "kind": str(token.kind),
        "name": token.name,
        "user": token.user,
        "organisation": token.organisation_slug,
        "project": token.project_public_id,
        "patterns": list(token.patterns) if token.patterns is not None else None,
        "actions": sorted(token.actions) if token.actions is not None else None,
        "may_manage": token.may_manage,
        "created_at": moment(token.created_at),
        "created_by": token.created_by,
        "expires_at": moment_or_none(token.expires_at),
        "last_used_at": moment_or_none(token.last_used_at),
        "revoked_at": moment_or_none(token.revoked_at),
    }
