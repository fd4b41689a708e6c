"""Logging in, asking who one is, and changing one's password."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from entrepot.api.call import Body, Caller, Services, Shown, declares
from entrepot.api.tokens import CreatedToken, Token, facts_of
from entrepot.model.access import Action
from entrepot.model.clock import SECOND
from entrepot.model.ids import to_text
from entrepot.services.session import LIFETIME, LONGEST, NAME_LIMIT, SHORTEST

router = APIRouter(tags=["session"])

Password = Annotated[
    str,
    Field(
        max_length=4_096,
        description="10 to 1,024 characters; not the user's name",
        json_schema_extra={"format": "password"},
    ),
]
LoginLifetime = Annotated[
    int,
    Field(ge=SHORTEST // SECOND, le=LONGEST // SECOND, description="seconds; 90 days by default"),
]


class Credentials(Body):
    """A user's name and password."""

    name: Annotated[str, Field(max_length=1_024)]
    password: Password
    token_name: Annotated[
        str, Field(max_length=NAME_LIMIT, description="what the token is for: a computer, say")
    ] = ""
    expires_in: LoginLifetime = LIFETIME // SECOND


class WhoUser(Shown):
    """A user, as the user."""

    id: str
    name: str
    is_administrator: bool


class WhoOrganisation(Shown):
    """An organisation that the caller sees."""

    id: str
    slug: str
    name: str
    role: Literal["reader", "member", "admin", "owner"] | None = Field(
        description="of the user; null for tokens that are no user's"
    )


class Who(Shown):
    """Whoever sent the credential."""

    kind: Literal["user", "org", "project", "pull"]
    user: WhoUser | None
    organisations: list[WhoOrganisation] = Field(description="1,000 at most")
    token: Token


class PasswordChange(Body):
    """A new password, and the one until now."""

    current: Annotated[
        Password | None, Field(description="not needed by whoever has no password yet")
    ] = None
    new: Password


@router.post("/login", **declares(Action.PUBLIC) | {"status_code": 201})
async def log_in(services: Services, caller: Caller, credentials: Credentials) -> CreatedToken:
    """Get a user token for a name and password. What is not right is not said."""
    facts, secret = await services.session.log_in(
        caller,
        credentials.name,
        credentials.password,
        token_name=credentials.token_name,
        expires_in=credentials.expires_in * SECOND,
    )
    return CreatedToken(**facts_of(facts), token=secret)


@router.get("/whoami", **declares(Action.LOGIN))
async def who_am_i(services: Services, caller: Caller) -> Who:
    """Whose credential this is, what it may see, and when it ends."""
    who = await services.session.who(caller)
    user = who.user
    token = Token(**facts_of(who.token))
    return Who(
        kind=token.kind,
        user=WhoUser(id=to_text(user.id), name=user.name, is_administrator=user.is_administrator)
        if user
        else None,
        organisations=[
            WhoOrganisation(
                id=organisation.public_id,
                slug=organisation.slug,
                name=organisation.name,
                role=role.value if role else None,
            )
            for organisation, role in who.organisations
        ],
        token=token,
    )


@router.put("/password", status_code=204, **declares(Action.LOGIN))
async def change_password(services: Services, caller: Caller, change: PasswordChange) -> None:
    """Change your password. Your other tokens from logging in end; tokens that you made stay."""
    await services.session.change_password(caller, change.current, change.new)
