"""Users of the server, for its administrators."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from entrepot.api.call import (
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    Version,
    declares,
    moment,
    moment_or_none,
    page_of,
    tag,
)
from entrepot.api.session import Password
from entrepot.model import tenancy
from entrepot.model.access import Action
from entrepot.model.ids import to_text
from entrepot.model.names import USER_NAME_LIMIT
from entrepot.services.users import UserChanges as Changes

router = APIRouter(tags=["users"])

UserName = Annotated[
    str,
    Field(
        max_length=USER_NAME_LIMIT,
        description="lower-case letters, digits and . _ -, or such an e-mail address",
    ),
]


class User(Shown):
    """Somebody with a name on this server."""

    id: str
    name: str
    is_administrator: bool = Field(description="of the server, beside any role")
    is_disabled: bool
    has_password: bool
    created_at: datetime
    disabled_at: datetime | None


class NewUser(Body):
    """A user to make; it joins organisations by invitations."""

    name: UserName
    password: Annotated[Password | None, Field(description="null: tokens only")] = None
    is_administrator: bool = False


class UserChanges(Body):
    """What to change; what is not named stays."""

    is_disabled: Annotated[
        bool | None, Field(description="ends all tokens of the user until enabled again")
    ] = None
    is_administrator: bool | None = None
    password: Annotated[
        Password | None, Field(description="ends the user's tokens from logging in")
    ] = None


@router.get("/users", **declares(Action.ADMINISTER))
async def list_users(services: Services, caller: Caller, window: Paging) -> Page[User]:
    """All users by name, disabled ones too."""
    found = await services.users.page(caller, after=window.after, limit=window.limit)
    return page_of(found, _shown, lambda user: user.name)


@router.post("/users", **declares(Action.ADMINISTER, creates=True))
async def create_user(services: Services, caller: Caller, new: NewUser, response: Response) -> User:
    """Make a user, who is in no organisation yet."""
    made = await services.users.create(
        caller, new.name, password=new.password, is_administrator=new.is_administrator
    )
    tag(response, made.version)
    return _shown(made)


@router.get("/users/{user}", **declares(Action.ADMINISTER))
async def show_user(services: Services, caller: Caller, user: str, response: Response) -> User:
    """One user, by name."""
    found = await services.users.get(caller, user)
    tag(response, found.version)
    return _shown(found)


@router.patch("/users/{user}", **declares(Action.ADMINISTER))
async def change_user(
    services: Services,
    caller: Caller,
    user: str,
    changes: UserChanges,
    version: Version,
    response: Response,
) -> User:
    """Disable or enable a user, make or unmake an administrator, set a password."""
    wanted = Changes(**changes.model_dump())
    changed = await services.users.update(caller, user, wanted, version=version)
    tag(response, changed.version)
    return _shown(changed)


def _shown(user: tenancy.User) -> User:
    return User(
        id=to_text(user.id),
        name=user.name,
        is_administrator=user.is_administrator,
        is_disabled=user.disabled_at is not None,
        has_password=user.has_password,
        created_at=moment(user.created_at),
        disabled_at=moment_or_none(user.disabled_at),
    )
