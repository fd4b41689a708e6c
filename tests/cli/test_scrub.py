"""`entrepot admin scrub` on a data folder."""

import json
import sqlite3
import time
from contextlib import closing

import pytest

from tests.cli.stored import Stored
from tests.support import damage
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow  # a process for every command


def test_nothing_wrong_is_success(stored):
    done = stored.run("scrub", "--all")

    assert done.returncode == 0
    assert "read 3 objects and 1 manifests" in done.stderr
    assert done.stdout == ""


def test_what_is_not_due_is_not_read(stored):
    done = stored.run("scrub", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "objects": 0,
        "bytes": json.loads(done.stdout)["bytes"],
        "manifests": 1,
        "damaged": [],
        "unreadable": [],
    }


def test_damage_is_reported_with_the_tags_that_suffer(stored):
    layer = stored.image["layers"][0]["digest"]
    for path in stored.objects:
        if path.stat().st_size == 1_000:
            damage.flip(path)

    done = stored.run("scrub", "--all", "--json")

    assert done.returncode == 1
    report = json.loads(done.stdout)
    found = {each["digest"]: each for each in report["damaged"]}
    assert found.keys() == {each["digest"] for each in stored.image["layers"]}
    assert found[layer]["repositories"] == [{"name": "main/app", "tags": ["v1", "v2"]}]
    again = stored.run("scrub")  # known damage is told each time
    assert again.returncode == 1
    assert layer in again.stdout
    assert "v1,v2" in again.stdout


def test_an_object_that_the_store_cannot_read_is_reported_and_not_blamed(stored):
    path = stored.objects[0]
    aside = path.rename(path.with_name("aside"))
    path.symlink_to(path)

    done = stored.run("scrub", "--all", "--json")

    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["damaged"] == []
    assert len(report["unreadable"]) == 1
    aside.replace(path)
    assert stored.run("scrub", "--all").returncode == 0


def test_a_scrub_that_is_killed_leaves_nothing_wrong(stored):
    with closing(sqlite3.connect(stored.data / "entrepot.db", isolation_level=None)) as database:
        database.execute("UPDATE blobs SET scrubbed_at = 0")

        def is_claimed():
            found = database.execute("SELECT 1 FROM blobs WHERE scrubbed_at > 0").fetchone()
            return found is not None

        killed = stored.start("scrub", "--rate=1")
        eventually(is_claimed)
        killed.kill()
        assert killed.wait(30) != 0

        assert stored.run("fsck").returncode == 0
        rest = json.loads(stored.run("scrub", "--json").stdout)
        assert (rest["objects"], rest["damaged"]) == (2, [])
        # The one that was being read is due again before long.
        due = database.execute("SELECT MIN(scrubbed_at) FROM blobs").fetchone()[0]
        assert due / 1e6 < time.time() - 29 * 86_400
    assert json.loads(stored.run("scrub", "--all", "--json").stdout)["objects"] == 3


@pytest.mark.parametrize("rate", ["0", "quick", "-1"])
def test_a_rate_is_a_number_of_bytes(tmp_path, rate):
    nothing = Stored(tmp_path, {})

    assert nothing.run("scrub", f"--rate={rate}").returncode == 2
