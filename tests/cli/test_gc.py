"""`entrepot admin gc` and `why`, on a data folder whose server may run."""

import asyncio
import json
import os
import secrets

import pytest
from click.testing import CliRunner

from entrepot.cli.main import main
from tests.faults.test_collection_crashes import Collections


class Operator(Collections):
    """Somebody at the machine of a registry that has much to collect."""

    def __init__(self, data):
        super().__init__(data, f"sqlite:///{data / 'entrepot.db'}")

    def admin(self, *words):
        ours = {**dict.fromkeys(os.environ), **self.environment}
        return CliRunner().invoke(main, ["admin", *words], env=ours)


@pytest.fixture
def operator(tmp_path):
    operator = Operator(tmp_path)
    asyncio.run(operator.fill())
    return operator


def test_collecting_by_hand_says_what_went(operator):
    answer = operator.admin("gc", "--json")

    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    assert report["collected"]["manifests"] == 3
    assert report["collected"]["objects"] == 3
    assert report["collected"]["bytes_freed"] == 60
    assert report["days"][0]["bytes"] == 60
    asyncio.run(operator.look())


def test_what_waits_is_shown_with_its_reason_and_stays(operator):
    answer = operator.admin("gc", "--dry-run", "--json")

    report = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert report["collected"]["objects"] == 0
    assert report["due"] > 0
    assert report["unused_bytes"] == 20
    assert {row["what"] for row in report["waiting"]} == {"manifest", "link"}
    assert {row["why"] for row in report["waiting"]} == {"due"}


def test_a_table_shows_it_to_a_person(operator):
    answer = operator.admin("gc")

    assert answer.exit_code == 0
    assert "removed 3 manifests, 3 links, 3 objects; 60 bytes freed" in answer.stderr


def test_a_collection_that_is_stopped_is_told_and_fails(operator):
    (operator.data / "blobs" / "collection.epoch").write_text("7")

    answer = operator.admin("gc")

    assert answer.exit_code == 1
    assert "the database is older than the store" in answer.stderr


def test_who_keeps_a_digest_is_told(operator):
    operator.admin("gc")
    ((name, digest),) = operator.kept.items()

    answer = operator.admin("why", digest)

    assert answer.exit_code == 0
    assert answer.stdout == f"main/{name}: tag kept → this manifest {digest}\n"
    found = json.loads(operator.admin("why", digest, "--json").stdout)
    assert found["repositories"][0]["way"] == [{"kind": "tag", "name": "kept"}]


def test_a_digest_that_nothing_has_is_refused(operator):
    answer = operator.admin("why", f"sha256:{secrets.token_hex(32)}")

    assert answer.exit_code == 1
    assert "nothing here has or had" in answer.stderr


def test_the_data_folder_can_be_said_as_to_serve(operator):
    elsewhere = {**operator.environment, "ENTREPOT_DATA": str(operator.data / "nothing")}
    elsewhere.pop("ENTREPOT_DATABASE__URL", None)

    lost = CliRunner().invoke(main, ["admin", "gc"], env=elsewhere)
    found = CliRunner().invoke(main, ["admin", "gc", "--data", str(operator.data)], env=elsewhere)

    assert lost.exit_code == 1
    assert "--data" in lost.stderr
    assert found.exit_code == 0, found.output
