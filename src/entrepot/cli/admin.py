"""`entrepot admin`: what works on the data folder or database directly, without a server."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from entrepot.cli.data_folder import config_option, opened, settings_of_existing
from entrepot.cli.doctor.command import doctor
from entrepot.cli.durations import lifetime
from entrepot.cli.fsck import fsck
from entrepot.cli.gc import gc
from entrepot.cli.rotate_key import rotate_key
from entrepot.cli.scopes import read_scopes
from entrepot.cli.scrub import scrub
from entrepot.cli.why import why
from entrepot.model.access import Kind
from entrepot.model.clock import HOUR, SystemClock
from entrepot.services.tenancy import Tenancy
from entrepot.services.tokens import TokenRequest

T = TypeVar("T")


@click.group()
def admin() -> None:
    """Manage the installation from its own machine."""


admin.add_command(doctor)
admin.add_command(rotate_key)
admin.add_command(gc)
admin.add_command(scrub)
admin.add_command(fsck)
admin.add_command(why)


@admin.group()
def token() -> None:
    """Tokens."""


@token.command("create")
@click.option("--kind", type=click.Choice(["user", "org", "project", "pull"]), required=True)
@click.option("--org", "organisation", default="main", show_default=True, help="Slug or id.")
@click.option("--user", default="admin", show_default=True, help="Whose, for --kind user.")
@click.option("--project", help="Project id, for --kind project and pull.")
@click.option("--expires", type=lifetime(), help="Such as 1h; pull tokens live 1h by default.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="PATTERN or PATTERN:ACTIONS, such as 'team/*:pull,push'; may be repeated.",
)
@click.option("--name", default="", help="What it is for.")
@config_option
def create_token(
    kind: str,
    organisation: str,
    user: str,
    project: str | None,
    expires: int | None,
    scopes: tuple[str, ...],
    name: str,
    config: Path | None,
) -> None:
    """Make a token and print it, alone, on standard output. It is shown once."""
    patterns, actions = read_scopes(scopes)
    if expires is None and kind == Kind.PULL:
        expires = HOUR
    request = TokenRequest(
        kind=Kind(kind),
        organisation=organisation,
        user=user,
        project=project,
        patterns=patterns,
        actions=actions,
        expires_in=expires,
        name=name,
    )
    click.echo(_with_tenancy(config, lambda tenancy: tenancy.add_token(request)))


@token.command("revoke")
@config_option
def revoke_token(config: Path | None) -> None:
    """End a token for good; the token is read from standard input."""
    secret = sys.stdin.read().strip()
    if not _with_tenancy(config, lambda tenancy: tenancy.revoke_token(secret)):
        raise click.ClickException("no such token, or it was revoked before")
    click.echo("revoked; it stops working within 10 seconds", err=True)


@admin.group()
def org() -> None:
    """Organisations."""


@org.command("create")
@click.argument("slug")
@config_option
def create_organisation(slug: str, config: Path | None) -> None:
    """Make an organisation."""
    _with_tenancy(config, lambda tenancy: tenancy.add_organisation(slug))
    click.echo(f"made {slug}; next: entrepot admin token create --kind org --org {slug}", err=True)


@admin.group()
def project() -> None:
    """Projects."""


@project.command("create")
@click.argument("name")
@click.option("--org", "organisation", default="main", show_default=True, help="Slug or id.")
@config_option
def create_project(name: str, organisation: str, config: Path | None) -> None:
    """Make a project and print its id, alone, on standard output."""
    public_id = _with_tenancy(config, lambda tenancy: tenancy.add_project(organisation, name))
    click.echo(public_id)


def _with_tenancy(config: Path | None, use: Callable[[Tenancy], Coroutine[Any, Any, T]]) -> T:
    settings = settings_of_existing(config)

    async def run() -> T:
        async with opened(settings) as database:
            return await use(Tenancy(database, SystemClock()))

    return asyncio.run(run())
