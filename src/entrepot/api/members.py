"""Members of an organisation."""

from datetime import datetime
from typing import Literal

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
from entrepot.model import access, tenancy
from entrepot.model.access import Action
from entrepot.model.ids import to_text

router = APIRouter(tags=["members"])

Role = Literal["reader", "member", "admin", "owner"]


class MemberUser(Shown):
    """The user who is a member."""

    id: str
    name: str


class Member(Shown):
    """A user in an organisation."""

    user: MemberUser
    role: Role
    created_at: datetime
    expires_at: datetime | None = Field(description="a server administrator's hour, when it ends")


class MemberChanges(Body):
    """Another role."""

    role: Role


@router.get("/organisations/{organisation}/members", **declares(Action.BROWSE))
async def list_members(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Member]:
    """An organisation's members, by name."""
    found = await services.members.page(
        caller, organisation, after=window.after, limit=window.limit
    )
    return page_of(found, _shown, lambda member: member.user)


@router.get("/organisations/{organisation}/members/{user}", **declares(Action.BROWSE))
async def show_member(
    services: Services, caller: Caller, organisation: str, user: str, response: Response
) -> Member:
    """One member, by name."""
    found = await services.members.get(caller, organisation, user)
    tag(response, found.version)
    return _shown(found)


@router.patch("/organisations/{organisation}/members/{user}", **declares(Action.MANAGE_MEMBERS))
async def change_member(
    services: Services,
    caller: Caller,
    organisation: str,
    user: str,
    changes: MemberChanges,
    version: Version,
    response: Response,
) -> Member:
    """Give a member another role. Owners are made and unmade by owners; the last one stays."""
    changed = await services.members.set_role(
        caller, organisation, user, access.Role(changes.role), version=version
    )
    tag(response, changed.version)
    return _shown(changed)


@router.delete(
    "/organisations/{organisation}/members/{user}",
    status_code=204,
    **declares(Action.MANAGE_MEMBERS),
)
async def remove_member(
    services: Services, caller: Caller, organisation: str, user: str, version: Version
) -> None:
    """Take a member out, or leave: anybody may remove themselves. The last owner stays."""
    await services.members.remove(caller, organisation, user, version=version)


def _shown(member: tenancy.Member) -> Member:
    return Member(
        user=MemberUser(id=to_text(member.user_id), name=member.user),
        role=member.role.value,
        created_at=moment(member.since),
        expires_at=moment_or_none(member.expires_at),
    )
