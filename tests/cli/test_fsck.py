"""`entrepot admin fsck` on a data folder."""

import json

import pytest

from entrepot.cli.fsck import limits_of
from entrepot.config import load
from entrepot.model.clock import SECOND
from tests.cli.stored import Stored

pytestmark = pytest.mark.slow  # a process for every command


def test_what_fits_together_is_success(stored: Stored):
    done = stored.run("fsck")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "database and store fit together\n"


def test_what_is_found_is_shown_and_mended_on_demand(stored: Stored):
    stored.objects[0].unlink()

    found = stored.run("fsck")
    assert found.returncode == 1
    assert "blob whose object is missing or cut" in found.stdout
    assert "entrepot admin fsck --repair" in found.stderr

    mended = stored.run("fsck", "--repair", "--json")
    assert mended.returncode == 1
    report = json.loads(mended.stdout)
    assert report["count"] == 1
    assert report["findings"][0]["is_mended"] is True

    assert stored.run("fsck").returncode == 0
    assert stored.run("scrub").returncode == 1  # damage waits for a push


@pytest.mark.parametrize(("restore", "delay"), [(86_400, 86_400), (600, 3_600)])
def test_what_nothing_knows_stays_as_long_as_what_people_deleted(restore, delay):
    settings = load(None, {"ENTREPOT_RETENTION__RESTORE_SECONDS": str(restore)})

    assert limits_of(settings).delay == delay * SECOND


@pytest.mark.parametrize("words", [(), ("--repair",)])
def test_a_store_that_is_not_mounted_is_not_an_empty_one(stored: Stored, words):
    blobs = stored.data / "blobs"
    blobs.rename(stored.data / "away")
    blobs.mkdir()

    done = stored.run("fsck", *words)

    assert done.returncode == 1
    assert "this store is not the one that the registry's blobs are in" in done.stderr
    blobs.rmdir()
    (stored.data / "away").rename(blobs)
    assert stored.run("fsck").returncode == 0
