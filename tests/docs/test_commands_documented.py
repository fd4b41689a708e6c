"""docs/reference/commands.md has a line for every command."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from entrepot.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


def _commands(command: click.Command, path: str) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _commands(found, f"{path} {name}")


def test_every_command_has_its_line():
    documented = set(re.findall(r"^\| `(entrepot [^`]+)` \|", PAGE.read_text(), re.MULTILINE))

    assert documented == set(_commands(main, "entrepot"))
