"""Invitations to an organisation, and joining by one."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from entrepot.api.call import (
    Base,
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    declares,
    moment,
    page_of,
    row_of,
)
from entrepot.api.members import MemberUser, Role
from entrepot.api.session import Password
from entrepot.api.users import UserName
from entrepot.model import access, tenancy
from entrepot.model.access import Action
from entrepot.model.clock import SECOND
from entrepot.model.ids import to_text
from entrepot.services.invitations import LIFETIME, LONGEST, NOTE_LIMIT, SHORTEST

router = APIRouter(tags=["invitations"])


class Invitation(Shown):
    """An open invitation, without its secret."""

    id: str
    role: Role
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime


class CreatedInvitation(Invitation):
    """An invitation that was just made."""

    invitation: str = Field(description="the secret; it is shown this once")
    link: str = Field(description="what to send; the secret is behind the #, so that no log has it")


class NewInvitation(Body):
    """Whom to invite, as what."""

    role: Role = "member"
    note: Annotated[
        str, Field(max_length=NOTE_LIMIT, description="for whom; shown in the list and the log")
    ] = ""
    expires_in: Annotated[
        int,
        Field(
            ge=SHORTEST // SECOND, le=LONGEST // SECOND, description="seconds; a week by default"
        ),
    ] = LIFETIME // SECOND


class Acceptance(Body):
    """An invitation, and who comes if no user token is sent: a user to make."""

    invitation: Annotated[str, Field(max_length=200)]
    name: UserName | None = None
    password: Password | None = None


class JoinedOrganisation(Shown):
    """The organisation that somebody joined."""

    id: str
    slug: str
    name: str


class Joined(Shown):
    """What came of an invitation."""

    organisation: JoinedOrganisation
    user: MemberUser
    role: Role = Field(description="a role that was higher before stays")
    token: str | None = Field(description="a token of a new user, shown this once; else null")


@router.get("/organisations/{organisation}/invitations", **declares(Action.MANAGE_MEMBERS))
async def list_invitations(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Invitation]:
    """Invitations that are still open, newest first."""
    found = await services.invitations.page(
        caller, organisation, before=window.after_id(), limit=window.limit
    )
    return page_of(found, _shown, lambda invitation: to_text(invitation.id))


@router.post(
    "/organisations/{organisation}/invitations", **declares(Action.MANAGE_MEMBERS, creates=True)
)
async def create_invitation(
    services: Services, caller: Caller, base: Base, organisation: str, new: NewInvitation
) -> CreatedInvitation:
    """Make a link by which one person joins. To invite an owner takes an owner."""
    made, secret = await services.invitations.create(
        caller,
        organisation,
        role=access.Role(new.role),
        note=new.note,
        expires_in=new.expires_in * SECOND,
    )
    return CreatedInvitation(
        **_shown(made).model_dump(), invitation=secret, link=f"{base}/join#{secret}"
    )


@router.delete(
    "/organisations/{organisation}/invitations/{invitation}",
    status_code=204,
    **declares(Action.MANAGE_MEMBERS),
)
async def revoke_invitation(
    services: Services, caller: Caller, organisation: str, invitation: str
) -> None:
    """End an open invitation."""
    await services.invitations.revoke(caller, organisation, row_of(invitation, "invitation"))


@router.post("/invitations/accept", **declares(Action.PUBLIC) | {"status_code": 201})
async def accept_invitation(services: Services, caller: Caller, acceptance: Acceptance) -> Joined:
    """Join an organisation: with a user token as that user, without one as a new user.

    It works once, and gives no more than whoever made it may give by now.
    """
    joined = await services.invitations.accept(
        caller, acceptance.invitation, name=acceptance.name, password=acceptance.password
    )
    return Joined(
        organisation=JoinedOrganisation(
            id=joined.organisation.public_id,
            slug=joined.organisation.slug,
            name=joined.organisation.name,
        ),
        user=MemberUser(id=to_text(joined.user.id), name=joined.user.name),
        role=joined.role.value,
        token=joined.token,
    )


def _shown(invitation: tenancy.Invitation) -> Invitation:
    return Invitation(
        id=to_text(invitation.id),
        role=invitation.role.value,
        note=invitation.note,
        created_by=invitation.inviter,
        created_at=moment(invitation.created_at),
        expires_at=moment(invitation.expires_at),
    )
