import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from entrepot.cli.main import COMMANDS, SECTIONS, main
from entrepot.model.errors import StartRefused

SERVERS_PACKAGES = {"granian", "pydantic", "structlog", "prometheus_client", "starlette", "psycopg"}


def test_the_version_is_told():
    assert CliRunner().invoke(main, ["--version"]).output == f"entrepot {version('entrepot')}\n"


def test_help_lists_every_command_without_the_packages_of_the_server():
    code = (
        "import sys; from entrepot.cli.main import main; main(['--help'], standalone_mode=False);"
        f"sys.exit(str({SERVERS_PACKAGES!r} & set(sys.modules) or ''))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )

    assert done.stderr.strip() == ""
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_every_command_has_its_place_in_the_help():
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)


def test_every_command_can_be_found():
    with click.Context(main) as context:
        assert all(main.get_command(context, name) for name in COMMANDS)


def test_an_unknown_command_is_refused():
    assert "No such command 'xyzzy'" in CliRunner().invoke(main, ["xyzzy"]).output


@pytest.mark.parametrize(("typed", "meant"), [("sevre", "serve"), ("prject", "project")])
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(typed, meant):
    result = CliRunner().invoke(main, [typed])

    assert result.exit_code == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in result.output


def test_an_error_of_ours_is_one_sentence_and_exit_code_1(monkeypatch):
    @click.command()
    def serve() -> None:
        raise StartRefused("the port is taken", port=5000)

    monkeypatch.setattr("entrepot.cli.serve.serve", serve)

    result = CliRunner().invoke(main, ["serve"])

    assert (result.exit_code, result.output) == (1, "Error: the port is taken\n")


def test_a_missing_package_of_the_server_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "granian", None)
    for name in [name for name in sys.modules if name.startswith("entrepot.cli.s")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "granian.constants", raising=False)

    result = CliRunner().invoke(main, ["serve"])

    assert result.exit_code == 1
    assert "pip install '.[server]'" in result.output
