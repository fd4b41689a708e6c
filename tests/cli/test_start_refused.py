"""A start that cannot be: one sentence with what to do, exit code 1, and no traceback."""

import os
import re
import shutil
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import trustme
from psycopg import sql

from entrepot.db.migrate import migrate
from entrepot.db.reach import require_reachable
from entrepot.identity.keys import SecretKey
from entrepot.model.errors import StartRefused
from tests.support.forked_command import run_forked
from tests.support.postgres import new_database
from tests.support.server import Client, running_server

pytestmark = pytest.mark.slow  # servers of its own


def run(*words, **settings):
    environment = {f"ENTREPOT_{name.upper()}": text for name, text in settings.items()}
    return run_forked(*words, environment=environment)


def refused(data, **settings):
    """What `entrepot serve` says."""
    words = ("serve", "--port", "0", "--workers", "1", "--data", str(data))
    done = run(*words, **settings)
    assert done.returncode == 1, done.stdout
    assert re.fullmatch(r"Error: [^\n]+\n", done.stderr), done.stderr
    return done.stderr


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def empty_database(postgres_server):
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def first_node(postgres_server, tmp_path_factory):
    """A server that runs, of a registry that others may want to be nodes of."""
    folder = tmp_path_factory.mktemp("first_node")
    blobs = {"ENTREPOT_BLOBS__URL": f"file://{folder}/blobs"}
    with (
        new_database(postgres_server) as url,
        running_server(folder / "data", database_url=url, environment=blobs) as server,
    ):
        yield server


@pytest.fixture
def others(first_node):
    """What every node of that registry has set."""
    return {
        "database__url": first_node.database_url,
        "secret_key": (first_node.data / "secret.key").read_text().strip(),
        "blobs__url": first_node.environment["ENTREPOT_BLOBS__URL"],
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The data folder of a registry that was started, has a blob, and was stopped."""
    data = tmp_path_factory.mktemp("made") / "data"
    with running_server(data) as server, closing(Client(server, token=server.token)) as client:
        client.push_blob("some/app", b"content")
    return data


@pytest.fixture
def locked_user(postgres_server):
    """A user who has to give the password `pass@word`."""
    name = f"locked_{os.urandom(4).hex()}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        ((file,),) = connection.execute("SHOW hba_file").fetchall()
        rules = Path(file)
        before = rules.read_text()
        rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{before}")
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pass@word'").format(sql.Identifier(name))
        connection.execute(create)
        connection.execute("SELECT pg_reload_conf()")
        yield name
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")


def test_a_wrong_password_is_told_at_once_and_not_shown(empty_database, locked_user, data):
    url = empty_database.replace("entrepot@", f"{locked_user}:wrong-one@")

    said = refused(data, database__url=url)

    assert f'password authentication failed for user "{locked_user}"' in said
    assert "correct user and password in ENTREPOT_DATABASE__URL" in said
    assert "wrong-one" not in said


def test_a_user_who_may_make_no_tables_is_told_whose_the_database_must_be(
    empty_database, locked_user, data
):
    url = empty_database.replace("entrepot@", f"{locked_user}:{quote('pass@word', safe='')}@")

    said = refused(data, database__url=url)

    assert f"the user {locked_user} may make no tables" in said
    assert f'OWNER TO "{locked_user}"' in said


def test_an_address_that_cannot_be_read_is_not_repeated(data):
    said = refused(data, database__url="postgresql://ours:pass word@h/db?nothing=1")

    assert "write postgresql://USER:PASSWORD@HOST:PORT/NAME" in said
    assert "pass word" not in said


def test_a_database_that_is_not_there_is_made_by_a_command(postgres_server, data):
    said = refused(data, database__url=postgres_server.replace("/postgres", "/no_such"))

    assert 'database "no_such" does not exist' in said
    assert "createdb" in said


def test_a_user_that_is_not_there_is_made_by_a_command(postgres_server, data):
    said = refused(data, database__url=postgres_server.replace("entrepot@", "nobody_known@"))

    assert "createuser" in said


async def test_a_server_that_is_away_is_named(unused_tcp_port):
    url = f"postgresql://ours:hidden@127.0.0.1:{unused_tcp_port}/registry"

    with pytest.raises(StartRefused) as said:
        await require_reachable(url, patience=0)

    assert f"port {unused_tcp_port} failed: Connection refused" in said.value.message
    assert "start it, or correct host and port" in said.value.message
    assert "hidden" not in said.value.message


async def test_one_that_does_not_answer_is_given_up(data, silent_port):
    with pytest.raises(StartRefused, match="start it, or correct host and port"):
        await require_reachable(
            f"postgresql://ours@127.0.0.1:{silent_port}/registry?connect_timeout=2", patience=0
        )


@pytest.fixture
def silent_port():
    """One that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_second_node_without_the_secret_key_is_refused_and_makes_none(others, data):
    del others["secret_key"]

    said = refused(data, **others)

    assert "there is no secret key in" in said
    assert "ENTREPOT_SECRET_KEY" in said
    assert not (data / "secret.key").exists()


def test_a_second_node_with_another_secret_key_is_refused(others, data):
    other = SecretKey.new()

    said = refused(data, **others | {"secret_key": other.text})

    assert "this is not the secret key of this registry" in said
    assert "the key that the other nodes have" in said
    assert other.text not in said


def test_a_second_node_with_a_store_of_its_own_is_refused(others, data):
    del others["blobs__url"]

    said = refused(data, **others)

    assert "this store is not the one that the registry's blobs are in" in said
    assert "set ENTREPOT_BLOBS__URL to where they are, the same on every node" in said


def test_a_registry_whose_blobs_are_looked_for_elsewhere_is_refused(made, tmp_path, data):
    shutil.copytree(made, data)

    said = refused(data, blobs__url=f"file://{tmp_path}/elsewhere")

    assert "this store is not the one that the registry's blobs are in" in said
    with running_server(data):
        pass


def test_an_empty_database_is_refused_on_a_store_that_is_in_use(made, tmp_path, data):
    shutil.copytree(made, data)
    settings = {"data": str(data), "database__url": f"sqlite:///{tmp_path}/empty.db"}

    said = refused(data, database__url=settings["database__url"])

    assert "correct ENTREPOT_DATABASE__URL" in said
    for command in ("fsck --repair", "gc"):  # the refused start has made the tables
        assert said == run("admin", *command.split(), **settings).stderr
    with running_server(data):
        pass


def test_a_second_node_with_the_same_secret_key_and_store_serves(others, data):
    shared = {f"ENTREPOT_{name.upper()}": text for name, text in others.items()}

    with running_server(data, environment=shared):
        assert not (data / "secret.key").exists()


def test_a_key_of_another_certificate_sends_to_the_doctor(tmp_path, data):
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority = trustme.CA()
    authority.issue_cert("a.example").cert_chain_pems[0].write_to_path(cert_file)
    authority.issue_cert("a.example").private_key_pem.write_to_path(key_file)
    key_file.chmod(0o600)

    said = refused(data, tls__cert_file=str(cert_file), tls__key_file=str(key_file))

    assert f"{cert_file} and {key_file} cannot be served" in said
    assert "entrepot admin doctor" in said


def test_blobs_in_a_folder_that_cannot_be_made_name_it(tmp_path, data):
    (tmp_path / "file").touch()

    said = refused(data, blobs__url=f"file://{tmp_path}/file/blobs")

    assert f"cannot make the folders of blobs and uploads in {tmp_path}/file/blobs" in said
    assert "Not a directory" in said
    assert "correct ENTREPOT_BLOBS__URL" in said


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("missing/entrepot.db", "there is no folder"),
        ("folder", "is no file, so no database"),
        ("text", "is no SQLite database"),
    ],
)
def test_an_sqlite_file_that_cannot_be_is_named(tmp_path, data, place, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("something else")

    said = refused(data, database__url=f"sqlite:///{tmp_path}/{place}")

    assert says in said
    assert "correct ENTREPOT_DATABASE__URL" in said


async def test_a_database_that_is_well_lets_us_in(database_url):
    await require_reachable(database_url)


async def test_who_owns_no_tables_is_let_in_until_they_have_to_be_changed(
    empty_database, locked_user
):
    await migrate(empty_database)
    url = empty_database.replace("entrepot@", f"{locked_user}:{quote('pass@word', safe='')}@")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON alembic_version TO PUBLIC")

        await require_reachable(url, patience=0)

        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StartRefused, match="start once as their owner"):
        await require_reachable(url, patience=0)
