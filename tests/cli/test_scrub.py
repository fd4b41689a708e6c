"""`entrepot admin scrub` on a data folder."""

import json
import os
import subprocess

import pytest

from tests.support import damage
from tests.support.server import ENTREPOT, Client, running_server


class Stored:
    """A data folder with an image in it."""

    def __init__(self, data, image):
        self.data = data
        self.image = image
        self.objects = sorted((data / "blobs").glob("*/*"))

    def run(self, *words):
        return subprocess.run(
            [ENTREPOT, "admin", *words],
            env={**os.environ, "ENTREPOT_DATA": str(self.data)},
            capture_output=True,
            check=False,
            text=True,
        )


@pytest.fixture
def stored(tmp_path):
    with running_server(tmp_path / "data") as server:
        client = Client(server, token=server.token)
        image = client.make_image("app", 2)
        for tag in ("v1", "v2"):
            client.push_manifest("app", tag, image)
        client.close()
    return Stored(tmp_path / "data", image)


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


@pytest.mark.parametrize("rate", ["0", "quick", "-1"])
def test_a_rate_is_a_number_of_bytes(stored, rate):
    assert stored.run("scrub", f"--rate={rate}").returncode == 2
