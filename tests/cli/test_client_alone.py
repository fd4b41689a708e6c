"""The package without extras: what manages a registry from anywhere, and nothing of the server."""

import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.cli.main import COMMANDS
from tests.cli.person import Person

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SERVERS = {"serve", "admin"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Somebody who installed the wheel, and nothing else."""
    home = tmp_path_factory.mktemp("alone")
    _uv("build", "--wheel", "--out-dir", str(home / "wheels"), str(ROOT))
    (wheel,) = (home / "wheels").glob("*.whl")
    _uv("venv", "--python", sys.executable, str(home / "venv"))
    _uv("pip", "install", "--python", str(home / "venv"), str(wheel))
    return Person(home, {"PATH": f"{home / 'venv' / 'bin'}:/usr/bin:/bin"})


def test_every_command_of_a_client_is_there(alone):
    for name in set(COMMANDS) - SERVERS:
        assert alone.run(name, "--help").out.startswith(f"Usage: entrepot {name}")


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_command_of_the_server_says_what_to_install(alone, name):
    assert "pip install '.[server]'" in alone.run(name, code=1).err


def test_it_works_against_a_server(alone, client_server, address):
    alone.run("login", address, "--token-stdin", stdin=client_server.token)

    assert "main" in alone.run("org", "list").out


def _uv(*words):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "bootstrap.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
