"""A server for the commands of clients, and people who type them."""

import json
import secrets
import shutil
from contextlib import closing
from types import SimpleNamespace

import httpx
import pytest

from tests.cli.person import Person
from tests.cli.stored import Stored
from tests.support.server import Client, basic, running_server


@pytest.fixture(scope="session")
def client_server(tmp_path_factory):
    environment = {"ENTREPOT_OUTBOUND__ALLOW": "127.0.0.1/32"}  # where upstreams are played
    folder = tmp_path_factory.mktemp("client_server")
    with running_server(folder, environment=environment) as server:
        yield server


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A data folder whose server has stopped, and the image in it."""
    data = tmp_path_factory.mktemp("filled") / "data"
    with running_server(data) as server, closing(Client(server, token=server.token)) as client:
        image = client.make_image("app", 2)
        for tag in ("v1", "v2"):
            client.push_manifest("app", tag, image)
    return data, image


@pytest.fixture
def stored(filled, tmp_path):
    """A copy of it."""
    data, image = filled
    return Stored(shutil.copytree(data, tmp_path / "data"), image)


@pytest.fixture(scope="session")
def address(client_server):
    return f"http://localhost:{client_server.port}"


@pytest.fixture(scope="session")
def logged_in(client_server, address, tmp_path_factory):
    """A home folder after logging in as the administrator."""
    person = _at_home(tmp_path_factory.mktemp("logged_in") / "admin")
    person.run("login", address, "--token-stdin", stdin=client_server.token)
    return person.home


@pytest.fixture
def admin(logged_in, tmp_path):
    """The administrator of the server, logged in."""
    shutil.copytree(logged_in, tmp_path / "admin")
    return Person(tmp_path / "admin")


@pytest.fixture
def stranger(tmp_path):
    """Somebody who has never logged in."""
    return _at_home(tmp_path / "stranger")


@pytest.fixture
def acme(client_server, admin):
    """The slug of an organisation that the administrator made, and means."""
    slug = f"acme-{secrets.token_hex(4)}"
    made = httpx.post(
        f"{client_server.url}/api/v1/organisations",
        json={"slug": slug},
        headers=basic(client_server.token),
    )
    assert made.status_code == 201
    admin.variables["ENTREPOT_ORG"] = slug
    return slug


@pytest.fixture
def member(admin, acme, tmp_path):
    """A member of it, who joined by an invitation."""
    person = _at_home(tmp_path / "member")
    link = admin.run("member", "invite").out.strip()
    name = f"bob-{secrets.token_hex(4)}"
    person.run("join", link, "--user", name, "--password-stdin", stdin="correct horse battery\n")
    return SimpleNamespace(person=person, name=name)


@pytest.fixture
def data():
    """What a command with --json printed."""
    return lambda said: json.loads(said.out)


def _at_home(home):
    home.mkdir()
    return Person(home)
