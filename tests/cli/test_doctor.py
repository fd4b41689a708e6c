"""`entrepot admin doctor` on a registry that is well, on sick ones, and without any."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from entrepot.identity.keys import SecretKey
from tests.cli.person import Person
from tests.support.forked_command import run_forked
from tests.support.postgres import new_database
from tests.support.server import ENTREPOT, running_server

pytestmark = pytest.mark.slow  # a process for each look

_PARTS = {"settings", "addresses", "disk", "database", "secret key", "store", "collection"}


@dataclass
class Patient:
    """The settings of a registry."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words, code=0, **settings):
        """What the command says, with `--json` parsed."""
        environment = {
            "ENTREPOT_DATA": str(self.data),
            "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",  # whatever this machine has free
            **self.environment,
            **settings,
        }
        done = run_forked("admin", "doctor", *words, environment=environment)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def findings(self, level=None, *, code=0, **settings):
        """Those of a level, by their part; what is found and its remedy."""
        report = json.loads(self.run("--json", code=code, **settings).stdout)
        found = report["findings"]
        assert report["errors"] == sum(each["level"] == "error" for each in found)
        assert all(each["remedy"] for each in found if each["level"] != "ok"), found
        return {
            each["part"]: f"{each['found']}; {each['remedy']}"
            for each in found
            if level is None or each["level"] == level
        }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The data folder of a registry that was started and stopped; copied for each test."""
    data = tmp_path_factory.mktemp("made") / "data"
    with running_server(data):
        pass
    return data


@pytest.fixture
def patient(made, tmp_path):
    return Patient(Path(shutil.copytree(made, tmp_path / "data")))


@pytest.fixture(scope="module")
def on_postgres(postgres_server, tmp_path_factory):
    """One for all tests: an examination leaves everything as it was."""
    with new_database(postgres_server) as url:
        data = tmp_path_factory.mktemp("on_postgres") / "data"
        patient = Patient(data, {"ENTREPOT_DATABASE__URL": url})
        with running_server(patient.data, database_url=url):
            pass
        yield patient


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_server_that_runs_is_well(database, request, tmp_path):
    url = ""
    if database == "postgres":
        url = request.getfixturevalue("postgres_url")
    settings = {"ENTREPOT_DATABASE__URL": url} if url else {}
    with running_server(tmp_path / "data", database_url=url):
        found = Patient(tmp_path / "data", settings).findings("error")

    assert found == {}


def test_one_that_is_stopped_is_examined_as_well(patient):
    found = patient.findings()

    assert found.keys() >= _PARTS
    assert "SQLite 3." in found["database"]
    assert "gave 1 MiB back as it was written" in found["store"]


def test_an_examination_leaves_everything_as_it_was(patient):
    before = _files(patient.data)

    patient.run()

    assert _files(patient.data) == before


def test_a_pipe_gets_a_line_for_each_finding(patient):
    done = patient.run(ENTREPOT_OPS__ALLOW="0.0.0.0/0")

    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert {len(line) for line in lines} == {3}
    assert {line[1] for line in lines} >= _PARTS
    assert done.stderr == "errors: 0, warnings: 1\n"


def test_a_terminal_gets_each_remedy_below_what_was_found(patient, tmp_path):
    (tmp_path / "home").mkdir()
    person = Person(
        tmp_path / "home",
        {"ENTREPOT_DATA": str(patient.data), "ENTREPOT_OPS__ALLOW": "0.0.0.0/0"},
    )

    shown = person.talk("admin", "doctor", columns=80)

    assert "to do: set ENTREPOT_OPS__ALLOW to your network" in " ".join(shown.split())
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert len(shown.splitlines()) <= 40


def test_where_no_registry_is_there_is_an_error_and_nothing_is_made(tmp_path):
    found = Patient(tmp_path / "nowhere").findings("error", code=1)

    assert "start one with `entrepot serve`" in found["database"]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", ["doctor", "gc"])
def test_who_may_not_look_into_the_data_folder_is_told_so(patient, command):
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    patient.data.chmod(0)

    done = subprocess.run(
        [*powerless, ENTREPOT, "admin", command, "--data", patient.data],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    patient.data.chmod(0o700)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"this user may not look into {patient.data}" in said
    assert "as the server's user" in said
    assert "Traceback" not in said


def test_a_setting_that_is_not_known_is_all_that_is_found(patient):
    found = patient.findings(code=1, ENTREPOT_DATABSE__URL="x")

    assert found.keys() == {"settings"}
    assert "did you mean ENTREPOT_DATABASE__URL" in found["settings"]


def test_a_secret_key_that_others_can_read_is_an_error(patient):
    (patient.data / "secret.key").chmod(0o644)

    found = patient.findings("error", code=1)

    assert found.keys() == {"secret key"}
    assert f"chmod 600 {patient.data / 'secret.key'}" in found["secret key"]


def test_another_secret_key_than_that_of_the_database_is_an_error(patient):
    other = SecretKey.new()

    done = patient.run("--json", code=1, ENTREPOT_SECRET_KEY=other.text)

    found = {each["part"]: each for each in json.loads(done.stdout)["findings"]}["secret key"]
    assert "not the secret key of this registry" in found["found"]
    assert "set ENTREPOT_SECRET_KEY" in found["remedy"]
    assert other.text not in done.stdout + done.stderr


def test_a_secret_key_that_is_gone_is_an_error(patient):
    (patient.data / "secret.key").unlink()

    assert "put it back" in patient.findings("error", code=1)["secret key"]


def test_a_store_that_is_not_mounted_is_an_error(patient):
    shutil.rmtree(patient.data / "blobs")

    found = patient.findings("error", code=1)

    assert str(patient.data / "blobs") in found["disk"]
    assert "No such file or directory" in found["store"]


def test_another_store_than_that_of_the_database_is_an_error(patient, tmp_path):
    (tmp_path / "other").mkdir()

    found = patient.findings("error", code=1, ENTREPOT_BLOBS__URL=f"file://{tmp_path}/other")

    assert "this store is not the one that the registry's blobs are in" in found["store"]
    assert "ENTREPOT_BLOBS__URL" in found["store"]


def test_a_store_from_another_time_than_the_database_is_an_error(patient):
    (patient.data / "blobs" / "collection.epoch").write_text("00000000000000000007")

    found = patient.findings("error", code=1)

    assert found.keys() == {"collection"}
    assert "the database is older than the store" in found["collection"]
    assert "entrepot admin fsck" in found["collection"]


def test_too_little_room_is_an_error_with_the_numbers(patient):
    found = patient.findings("error", code=1, ENTREPOT_BLOBS__LOW_WATER_BYTES="900TB")

    assert found.keys() == {"disk"}
    assert "nothing new is stored below 900000.0 GB" in found["disk"]


def test_a_proxy_that_does_not_answer_is_an_error(patient, unused_tcp_port):
    proxy = f"http://ours:secret@127.0.0.1:{unused_tcp_port}"

    done = patient.run("--json", code=1, ENTREPOT_OUTBOUND__PROXY=proxy)

    found = {each["part"]: each for each in json.loads(done.stdout)["findings"]}["outbound"]
    assert found["level"] == "error"
    assert "cannot be reached (Connection refused)" in found["found"]
    assert "secret@" not in done.stdout


def test_a_ca_file_that_holds_none_is_an_error(patient, tmp_path):
    (tmp_path / "ca.pem").write_text("none")

    found = patient.findings("error", code=1, ENTREPOT_OUTBOUND__CA_FILE=str(tmp_path / "ca.pem"))

    assert found.keys() == {"outbound"}


class TestOnPostgres:
    def test_the_server_says_its_version_room_and_time(self, on_postgres):
        found = on_postgres.findings()

        assert "PostgreSQL 1" in found["database"]
        assert "it takes 197 connections" in found["database"]
        assert "tells our time" in found["clock"]

    def test_more_connections_than_it_takes_are_a_warning(self, on_postgres):
        settings = {"ENTREPOT_DATABASE__POOL_SIZE": "100", "ENTREPOT_WORKERS": "4"}

        report = json.loads(on_postgres.run("--json", **settings).stdout)

        warnings = [each for each in report["findings"] if each["level"] == "warning"]
        (told,) = [each for each in warnings if "we may open 400" in each["found"]]
        assert "ENTREPOT_DATABASE__POOL_SIZE" in told["remedy"]

    def test_a_database_that_is_away_is_an_error_and_the_rest_is_examined(
        self, on_postgres, unused_tcp_port
    ):
        url = f"postgresql://ours:secret@127.0.0.1:{unused_tcp_port}/registry"

        done = on_postgres.run("--json", code=1, ENTREPOT_DATABASE__URL=url)

        found = {each["part"]: each for each in json.loads(done.stdout)["findings"]}
        assert str(unused_tcp_port) in found["database"]["found"]
        assert "start it" in found["database"]["remedy"]
        assert found["store"]["level"] == "ok"
        assert "secret@" not in done.stdout + done.stderr

    def test_a_second_node_without_an_address_is_a_warning(self, on_postgres):
        url = on_postgres.environment["ENTREPOT_DATABASE__URL"]
        with psycopg.connect(url) as connection:
            ((sockets,),) = connection.execute("SHOW unix_socket_directories").fetchall()
        # The one that does not come from 127.0.0.1.
        with psycopg.connect(url, host=sockets, application_name="entrepot"):
            warned = on_postgres.findings("warning")
            refused = on_postgres.findings(
                "error", code=1, ENTREPOT_NODE__URL="http://127.0.0.1:5000"
            )
            elsewhere = {"ENTREPOT_NODE__URL": "http://10.0.0.5:5000"}
            alone = on_postgres.findings("error", code=1, **elsewhere)
            well = on_postgres.findings(**elsewhere, ENTREPOT_HOST="0.0.0.0")

        assert "2 nodes share the database" in warned["nodes"]
        assert "no address for the others" in refused["nodes"]
        assert "it listens on 127.0.0.1" in alone["nodes"]
        assert "ENTREPOT_HOST" in alone["nodes"]
        assert well["nodes"].startswith("others reach this one at http://10.0.0.5:5000")


def _files(folder):
    """Names and contents; SQLite's shared memory is no content."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }
