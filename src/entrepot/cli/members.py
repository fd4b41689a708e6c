"""`entrepot member` and `entrepot invitation`: who is in an organisation, and who may come."""

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, Missing, at
from entrepot.cli.durations import lifetime, seconds
from entrepot.cli.messages import command, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import as_json, at_most, made, relative, show_json, show_list, when
from entrepot.cli.session import Session, open_session
from entrepot.model.access import Role
from entrepot.model.clock import DAY, HOUR

_MEMBERS = {
    "NAME": "user.name",
    "ROLE": "role",
    "SINCE": when("created_at"),
    "ENDS": when("expires_at", ""),
}
_INVITATIONS = {
    "ID": "id",
    "ROLE": "role",
    "NOTE": "note",
    "BY": "created_by",
    "CREATED": when("created_at"),
    "ENDS": when("expires_at"),
}
_ROLES = click.Choice([str(role) for role in Role])


@click.group()
def member() -> None:
    """Members of an organisation."""


@member.command("list")
@organisation_option
@at_most
@as_json
def list_members(organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List members and their roles."""
    session = open_session()
    slug = session.organisation(organisation)
    found = session.client.pages(at("organisations", slug, "members"), limit=limit)
    empty = (f"nobody is in {slug}", command("member", "invite", "--org", slug))
    show_list(found, _MEMBERS, as_json=as_json, empty=empty)


@member.command("invite")
@organisation_option
@click.option("--role", type=_ROLES, default="member", show_default=True)
@click.option("--note", default="", help="Whom it is for; only your organisation sees it.")
@click.option(
    "--expires", type=lifetime(HOUR, 30 * DAY), help="How long the link is good for [7d]."
)
@as_json
def invite(
    organisation: str | None, role: str, note: str, expires: int | None, *, as_json: bool
) -> None:
    """Make an invitation and print its link, alone. The link is good for one person, once."""
    session = open_session()
    slug = session.organisation(organisation)
    body: Json = {"role": role, "note": note}
    if expires:
        body["expires_in"] = seconds(expires)
    found = session.client.create(at("organisations", slug, "invitations"), body)
    say(
        f"made an invitation to {slug} as {role}, which ends {relative(found['expires_at'])}; send"
        " the link to one person, who types:",
        command("join", found["link"]),
    )
    made(found, found["link"], as_json=as_json)


@member.command("set")
@click.argument("name")
@organisation_option
@click.option("--role", type=_ROLES, required=True)
@as_json
def set_member(name: str, organisation: str | None, role: str, *, as_json: bool) -> None:
    """Give a member another role."""
    session = open_session()
    slug = session.organisation(organisation)
    found = session.client.change(_find(session, slug, name), {"role": role})
    say(f"{name} is {role} of {slug} now", command("member", "list", "--org", slug))
    if as_json:
        show_json(found)


@member.command("remove", short_help="Take a member out.")
@click.argument("name")
@organisation_option
@yes_option
def remove_member(name: str, organisation: str | None, *, yes: bool) -> None:
    """Take a member out; their user stays, with what they are in other organisations."""
    session = open_session()
    slug = session.organisation(organisation)
    path = _find(session, slug, name)
    confirm(f"Take {name} out of {slug}?", yes=yes)
    session.client.delete(path)
    say(f"took {name} out of {slug}", command("member", "list", "--org", slug))


def _find(session: Session, slug: str, name: str) -> str:
    """The path of a member who is there. Raises Missing."""
    path = at("organisations", slug, "members", name)
    if session.client.find(path) is None:
        session.client.get(at("organisations", slug))  # or this is what there is not
        raise Missing(f"{slug} has no member {name}", command("member", "list", "--org", slug))
    return path


@click.group()
def invitation() -> None:
    """Invitations that nobody has taken yet."""


@invitation.command("list")
@organisation_option
@at_most
@as_json
def list_invitations(organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List open invitations."""
    session = open_session()
    slug = session.organisation(organisation)
    found = session.client.pages(at("organisations", slug, "invitations"), limit=limit)
    empty = (f"{slug} has no open invitations", command("member", "invite", "--org", slug))
    show_list(found, _INVITATIONS, as_json=as_json, empty=empty)


@invitation.command("revoke")
@click.argument("invitation_id", metavar="ID")
@organisation_option
def revoke_invitation(invitation_id: str, organisation: str | None) -> None:
    """Make a link worthless."""
    session = open_session()
    slug = session.organisation(organisation)
    session.client.delete(at("organisations", slug, "invitations", invitation_id))
    say("revoked the invitation", command("invitation", "list", "--org", slug))
