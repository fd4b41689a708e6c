"""The `entrepot` command: finds the module of a subcommand when it is asked for."""

import importlib
from difflib import get_close_matches
from typing import Any

import click

from entrepot.model.errors import EntrepotError

# Modules are imported when used: the client needs neither the server's packages nor their time.
COMMANDS = {
    "serve": ("entrepot.cli.serve", "Run the registry."),
    "admin": ("entrepot.cli.admin", "Manage the installation from its own machine."),
    "login": ("entrepot.cli.login", "Log in to a server."),
    "logout": ("entrepot.cli.login", "Forget the credential for a server."),
    "whoami": ("entrepot.cli.login", "Show who you are to the server."),
    "password": ("entrepot.cli.password", "Choose a password."),
    "join": ("entrepot.cli.join", "Take an invitation."),
    "docker-login": ("entrepot.cli.docker_login", "Let docker or podman push and pull."),
    "org": ("entrepot.cli.organisations", "Organisations."),
    "member": ("entrepot.cli.members", "Members of an organisation."),
    "invitation": ("entrepot.cli.members", "Invitations to an organisation."),
    "project": ("entrepot.cli.projects", "Projects."),
    "repository": ("entrepot.cli.repositories", "Repositories."),
    "upstream": ("entrepot.cli.upstreams", "Other registries to pull through."),
    "mirror": ("entrepot.cli.namespace_mirrors", "Prefixes that mirror an upstream."),
    "tag": ("entrepot.cli.tags", "Tags of a repository."),
    "retention": ("entrepot.cli.retention", "How long what is pushed is kept."),
    "token": ("entrepot.cli.tokens", "Tokens for programs and people."),
    "pull-token": ("entrepot.cli.tokens", "Make a token that pulls, for an hour."),
    "kubernetes-secret": ("entrepot.cli.kubernetes", "Make a pull secret for a cluster."),
    "audit": ("entrepot.cli.audit", "Who did what."),
    "usage": ("entrepot.cli.usage", "What is held, and what that costs."),
    "user": ("entrepot.cli.users", "Users of the server."),
    "settings": ("entrepot.cli.settings", "Switches of the running server."),
    "completion": ("entrepot.cli.completion", "Make a shell complete these commands."),
}
# How `entrepot --help` shows them.
SECTIONS = {
    "A registry of your own": ("serve", "admin"),
    "You": ("login", "logout", "whoami", "password", "join", "docker-login", "completion"),
    "What is stored": ("repository", "tag", "retention", "project"),
    "Other registries": ("upstream", "mirror"),
    "Who may use it": ("org", "member", "invitation", "audit", "usage"),
    "Programs that use it": ("token", "pull-token", "kubernetes-secret"),
    "The server, for its administrators": ("user", "settings"),
}


class _Commands(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed = args[0]
        close = [] if typed in COMMANDS else get_close_matches(typed, COMMANDS, n=1)
        if close and not ctx.resilient_parsing:
            ctx.fail(f"No such command {typed!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _ = COMMANDS[cmd_name]
        try:
            name = cmd_name.replace("-", "_")
            command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("entrepot"):
                raise
            raise click.ClickException(
                f"`entrepot {cmd_name}` needs {error.name}: in a clone of the source,"
                " pip install '.[server]'"
            ) from error
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{cmd_name} is not a command")
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002  # click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's signature
        try:
            return super().invoke(ctx)
        except EntrepotError as error:
            raise click.ClickException(error.message) from error


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="entrepot", message="entrepot %(version)s")
def main() -> None:
    """A self-hosted, multi-tenant OCI registry."""
