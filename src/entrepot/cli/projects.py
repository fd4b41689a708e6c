"""`entrepot project`: projects, and the repositories that their tokens may use."""

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import at
from entrepot.cli.messages import command, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import as_json, at_most, made, show_json, show_list, show_one, when
from entrepot.cli.session import open_session
from entrepot.cli.undo import restore_project, undo

_COLUMNS = {
    "ID": "id",
    "NAME": "name",
    "ORGANISATION": "organisation.slug",
    "CREATED": when("created_at"),
}
_LINKS = {"PATH": "path", "ID": "id", "CREATED": when("created_at")}


@click.group()
def project() -> None:
    """Projects: a place for the builds of one thing, and its tokens.

    PROJECT is a project's id, or its name where that is the only one.
    """


@project.command("list")
@organisation_option
@at_most
@as_json
def list_projects(organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List the projects of an organisation."""
    session = open_session()
    slug = session.organisation(organisation)
    found = session.client.pages(at("organisations", slug, "projects"), limit=limit)
    empty = (f"{slug} has no projects", command("project", "create", "NAME", "--org", slug))
    show_list(found, _COLUMNS, as_json=as_json, empty=empty)


@project.command("create")
@click.argument("name")
@organisation_option
@click.option("--id", "public_id", help="An id of your own, when you move from another registry.")
@as_json
def create_project(
    name: str, organisation: str | None, public_id: str | None, *, as_json: bool
) -> None:
    """Make a project and print its id, alone, on standard output."""
    session = open_session()
    slug = session.organisation(organisation)
    body = {"name": name} | ({"id": public_id} if public_id else {})
    found = session.client.create(at("organisations", slug, "projects"), body)
    token = ("token", "create", "--kind", "project", "--project", found["id"], "--org", slug)
    say(
        f"made project {name}; its builds are {session.host}/{found['id']}:TAG; a token for its CI"
        " that ends, and may push and pull no more than it has to:",
        command(*token, "--name", "ci", "--expires", "90d", "--scope", f"{found['id']}:pull,push"),
        command("project", "link", found["id"], f"{slug}/PATH"),
    )
    made(found, found["id"], as_json=as_json)


@project.command("show")
@click.argument("project")
@organisation_option
@as_json
def show_project(project: str, organisation: str | None, *, as_json: bool) -> None:
    """Show a project."""
    found = open_session().project(project, organisation)
    columns = {
        "id": "id",
        "name": "name",
        "organisation": "organisation.slug",
        "created": when("created_at"),
    }
    show_one(found, columns, as_json=as_json)


@project.command("rename")
@click.argument("project")
@click.argument("name")
@organisation_option
@as_json
def rename_project(project: str, name: str, organisation: str | None, *, as_json: bool) -> None:
    """Give a project another name; its id and its builds stay."""
    session = open_session()
    wanted = session.project(project, organisation)
    found = session.client.change(at("projects", wanted["id"]), {"name": name})
    say(f"project {wanted['id']} is {name} now", command("project", "show", wanted["id"]))
    if as_json:
        show_json(found)


@project.command("transfer")
@click.argument("project")
@click.argument("to", metavar="ORGANISATION")
@organisation_option
@yes_option
@as_json
def transfer_project(
    project: str, to: str, organisation: str | None, *, yes: bool, as_json: bool
) -> None:
    """Move a project and its builds to another organisation."""
    session = open_session()
    wanted = session.project(project, organisation)
    named = f"{wanted['name']} ({wanted['id']})"
    confirm(f"Move project {named} from {wanted['organisation']['slug']} to {to}?", yes=yes)
    path = at("projects", wanted["id"], "transfer")
    found = session.client.act(path, {"organisation": to})
    say(f"moved project {named} to {to}", command("project", "list", "--org", to))
    if as_json:
        show_json(found)


@project.command("delete")
@click.argument("project")
@organisation_option
@yes_option
def delete_project(project: str, organisation: str | None, *, yes: bool) -> None:
    """Delete a project, its builds and its tokens."""
    session = open_session()
    wanted = session.project(project, organisation)
    slug = wanted["organisation"]["slug"]
    named = f"{wanted['name']} ({wanted['id']})"
    confirm(f"Delete project {named} of {slug} with its builds and tokens?", yes=yes)
    until = session.client.delete(at("projects", wanted["id"]))
    how = undo(until, "project", "restore", wanted["id"])
    say(f"deleted project {named}{how}", command("project", "list", "--org", slug))


@project.command("link", short_help="Let the tokens of a project use a repository.")
@click.argument("project")
@click.argument("path")
@organisation_option
def link(project: str, path: str, organisation: str | None) -> None:
    """Let the tokens of a project push to and pull from the repository at PATH."""
    session = open_session()
    wanted = session.project(project, organisation)
    repository = session.repository(path)
    session.client.put(at("projects", wanted["id"], "repositories", repository["id"]))
    say(f"project {wanted['name']} may use {path}", command("project", "links", wanted["id"]))


@project.command("unlink")
@click.argument("project")
@click.argument("path")
@organisation_option
def unlink(project: str, path: str, organisation: str | None) -> None:
    """Take the repository at PATH from the tokens of a project."""
    session = open_session()
    wanted = session.project(project, organisation)
    repository = session.repository(path)
    session.client.delete(at("projects", wanted["id"], "repositories", repository["id"]))
    say(
        f"project {wanted['name']} may no longer use {path}",
        command("project", "links", wanted["id"]),
    )


@project.command("links", short_help="List the repositories that a project is linked to.")
@click.argument("project")
@organisation_option
@at_most
@as_json
def list_links(project: str, organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List the repositories that the tokens of a project may use besides its own."""
    session = open_session()
    wanted = session.project(project, organisation)
    found = session.client.pages(at("projects", wanted["id"], "repositories"), limit=limit)
    slug = wanted["organisation"]["slug"]
    empty = (
        f"project {wanted['name']} is linked to no repository",
        command("project", "link", wanted["id"], f"{slug}/PATH"),
    )
    show_list(found, _LINKS, as_json=as_json, empty=empty)


project.add_command(restore_project)
