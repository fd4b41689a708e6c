"""The checker finds what is planted: a checker that never fails proves nothing."""

import secrets
import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.support.invariants import check_invariants
from tests.support.server import OCI_INDEX, Client, running_server

PLANTED = {
    "a tag of a deleted manifest": "UPDATE manifests SET deleted_at = 1",
    "a manifest without its layer": "UPDATE blob_links SET deleted_at = 1",
    "a reference that was not recorded": "DELETE FROM manifest_blobs",
    "a closed history": "UPDATE tag_history SET ended_at = started_at",
    "a gap in the history": "UPDATE tag_history SET version = 9; UPDATE tags SET version = 9",
    "a wrong size": "UPDATE blobs SET size = size + 1",
    "a forgotten object": "PRAGMA foreign_keys = OFF; DELETE FROM blobs",
    "an object that will be deleted": (
        "INSERT INTO tombstones (storage_key, digest, size, due_at)"
        " SELECT storage_key, digest, size, 1 FROM blobs"
    ),
    "bytes that were not counted": "DELETE FROM byte_deltas",
    "holders that were not counted": "UPDATE organisation_content SET holders = holders + 1",
    "a session that should be gone": "UPDATE uploads SET expires_at = 1",
    "a link that nobody reviews": (
        "DELETE FROM manifest_blobs; DELETE FROM manifest_children; DELETE FROM tags;"
        "DELETE FROM manifests; DELETE FROM review_queue"
    ),
    "an orphan that nobody reviews": (
        "UPDATE manifests SET orphaned_at = 1; DELETE FROM review_queue"
    ),
}


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A data folder with an image and an index in it."""
    data = tmp_path_factory.mktemp("pushed")
    with running_server(data, environment={"ENTREPOT_ANONYMOUS": "push"}) as server:
        client = Client(server, mode="open")
        name = f"test/{secrets.token_hex(4)}"
        digest = client.push_image(name, "one", layers=2)
        child = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": 9,
        }
        client.push_manifest(
            name, "index", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
        )
        client.close()
    return data


@pytest.fixture
def copy(pushed, tmp_path):
    return shutil.copytree(pushed, tmp_path / "copy")


def url_of(data):
    return f"sqlite:///{data / 'entrepot.db'}"


def test_what_was_pushed_is_in_order(copy):
    check_invariants(url_of(copy), copy)


@pytest.mark.parametrize("statements", PLANTED.values(), ids=PLANTED)
def test_wrong_rows_are_found(copy, statements):
    with closing(sqlite3.connect(copy / "entrepot.db")) as connection:
        connection.executescript(statements)

    with pytest.raises(AssertionError, match="invariants are broken"):
        check_invariants(url_of(copy), copy)


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[::-1])]
)
def test_a_lost_or_changed_object_is_found(copy, harm):
    harm(next(path for path in (copy / "blobs").glob("*/*")))

    with pytest.raises(AssertionError, match="invariants are broken"):
        check_invariants(url_of(copy), copy)


@pytest.mark.parametrize("folder", ["uploads", "blobs/00"])
def test_a_file_that_nothing_knows_is_found(copy, folder):
    (copy / folder / secrets.token_hex(16)).touch()

    with pytest.raises(AssertionError, match="nothing knows"):
        check_invariants(url_of(copy), copy, late_seconds=-60, grace_seconds=-60)
