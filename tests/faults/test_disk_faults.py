"""A disk that fails and a disk that is full: never a 201, never bytes that were not synced."""

import json
import os
import secrets
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.invariants import check_invariants
from tests.support.server import OCI_MANIFEST, Client, digest_of, running_server
from tests.support.strace import attached, require_tracing, workers_of

pytestmark = pytest.mark.slow

_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}
_MIB = 1 << 20


@pytest.fixture
def server(data):
    require_tracing()
    with running_server(data, environment=_OPEN) as server:
        yield server


@pytest.fixture
def client(server):
    with a_client(server) as client:
        yield client


@contextmanager
def a_client(server):
    client = Client(server, mode="open")
    try:
        yield client
    finally:
        client.close()


@contextmanager
def failing(server, tmp_path, call, *, path=None, error="EIO"):
    """Let every such call of the worker fail; with a path, those on it."""
    only = ["-P", str(path)] if path else []
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}"]
    output = tmp_path / f"calls-{secrets.token_hex(4)}"
    with attached(workers_of(server)[0], output, *only, *inject):
        yield
    assert "(INJECTED)" in output.read_text()


def check(server):
    check_invariants(f"sqlite:///{server.data / 'entrepot.db'}", server.data)


def begin(client, name, content=b""):
    """An upload with its first bytes; where it goes on."""
    begun = client.request("POST", f"/v2/{name}/blobs/uploads/")
    if not content:
        return begun.headers["location"]
    sent = client.request("PATCH", begun.headers["location"], content=content)
    assert sent.status_code == 202, sent.text
    return sent.headers["location"]


def finish(client, location, digest, content=b""):
    return client.request("PUT", location, params={"digest": digest}, content=content)


def staged(server):
    return list((server.data / "uploads").iterdir())


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_an_upload_whose_sync_fails_is_gone_and_others_go_on(server, client, tmp_path, name, error):
    content = secrets.token_bytes(100_000)
    digest = digest_of(content)
    location = begin(client, name, content)
    (file,) = staged(server)

    with failing(server, tmp_path, "fdatasync", path=file, error=error):
        refused = finish(client, location, digest)
        client.push_blob(name, b"another")

    assert refused.status_code == 503, refused.text
    assert finish(client, location, digest).status_code == 404
    assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 404
    assert not staged(server)
    assert client.push_blob(name, content) == digest
    check(server)


def test_an_upload_whose_background_sync_fails_is_gone(server, client, tmp_path, name):
    """The kernel reports it once: the sync of the commit would succeed without the bytes."""
    location = begin(client, name, b"first")
    (file,) = staged(server)

    with failing(server, tmp_path, "fdatasync", path=file):
        refused = client.request("PATCH", location, content=bytes(70 * _MIB))

    assert refused.status_code == 503, refused.text
    assert client.request("GET", location).status_code == 404
    assert not staged(server)
    client.push_blob(name, b"another")
    check(server)


def test_an_upload_whose_folder_cannot_be_synced_is_gone(server, client, tmp_path, name):
    content = secrets.token_bytes(10_000)
    digest = digest_of(content)
    location = begin(client, name, content)

    with failing(server, tmp_path, "fsync"):
        refused = finish(client, location, digest)

    assert refused.status_code == 503, refused.text
    assert client.request("GET", location).status_code == 404
    assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 404
    assert client.push_blob(name, content) == digest
    check(server)


@pytest.mark.parametrize("what", ["blob", "manifest", "deletion"])
def test_a_log_that_cannot_be_synced_acknowledges_nothing(server, client, tmp_path, name, what):
    client.push_image(name, "v1")
    body = json.dumps(client.make_image(name)).encode()
    content = secrets.token_bytes(1_000)
    location = begin(client, name, content)
    headers = {"content-type": OCI_MANIFEST}

    def act():
        if what == "blob":
            return finish(client, location, digest_of(content))
        path = f"/v2/{name}/manifests/v1"
        if what == "manifest":
            return client.request("PUT", path, content=body, headers=headers)
        return client.request("DELETE", path)

    with failing(server, tmp_path, "fdatasync", path=server.data / "entrepot.db-wal"):
        refused = act()
        pulled = client.request("GET", f"/v2/{name}/manifests/v1")

    assert refused.status_code == 503, refused.text
    assert pulled.status_code == 200
    assert act().status_code in {201, 202}
    check(server)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 96 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs root: it mounts a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Take all free space but `leave` bytes."""
    filler = folder / "filler"
    statistics = os.statvfs(folder)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, statistics.f_bavail * statistics.f_frsize - leave)
    return filler


def test_a_full_disk_acknowledges_nothing_and_recovers_with_its_space(small_disk, name):
    data = small_disk / "data"
    with running_server(data, environment=_OPEN) as server, a_client(server) as client:
        client.push_image(name, "v1")
        body = json.dumps(client.make_image(name)).encode()
        content = secrets.token_bytes(3 * _MIB)
        digest = digest_of(content)
        location = begin(client, name)
        filler = fill(small_disk)

        sent = client.request("PATCH", location, content=content)
        refused = [
            finish(client, begin_or(client, name, location), digest, content),
            *(put_until_refused(client, name, body)),
        ]
        pulled = client.request("GET", f"/v2/{name}/manifests/v1")

        assert sent.status_code in {503, 507}, sent.text
        assert {answer.status_code for answer in refused} <= {503, 507, 404}
        assert all("retry-after" in a.headers for a in refused if a.status_code == 507)
        assert pulled.status_code == 200
        filler.unlink()
        assert client.push_blob(name, content) == digest
        client.push_manifest(name, "v2", body, OCI_MANIFEST)
        assert client.request("DELETE", f"/v2/{name}/manifests/v1").status_code == 202
        check(server)


def begin_or(client, name, location):
    """A new upload if one can be had on a full disk, else the old one."""
    begun = client.request("POST", f"/v2/{name}/blobs/uploads/")
    return begun.headers["location"] if begun.status_code == 202 else location


def put_until_refused(client, name, body):
    """The log has pages to fill before its file must grow: push until it must."""
    for number in range(2_000):
        answer = client.request(
            "PUT",
            f"/v2/{name}/manifests/t{number}",
            content=body,
            headers={"content-type": OCI_MANIFEST},
        )
        if answer.status_code != 201:
            return [answer]
    raise AssertionError("the disk is not full")


def test_below_the_low_water_mark_pushes_are_refused_and_all_else_goes_on(small_disk, name):
    data = small_disk / "data"
    low = 32 * _MIB
    environment = {**_OPEN, "ENTREPOT_BLOBS__LOW_WATER_BYTES": str(low)}
    with running_server(data, environment=environment) as server, a_client(server) as client:
        digest = client.push_image(name, "v1")
        body = json.dumps(client.make_image(name)).encode()
        location = begin(client, name, b"begun")
        filler = fill(small_disk, leave=low // 2)

        refused = [
            client.request("POST", f"/v2/{name}/blobs/uploads/"),
            client.request("PATCH", location, content=b"more"),
            client.request(
                "PUT",
                f"/v2/{name}/manifests/v2",
                content=body,
                headers={"content-type": OCI_MANIFEST},
            ),
        ]

        for answer in refused:
            assert answer.status_code == 507, answer.text
            detail = answer.json()["errors"][0]["detail"]
            assert detail["low_water"] == low
            assert 0 < detail["free"] < low
            assert int(answer.headers["retry-after"]) > 0
        # What /readyz says may be a second old.
        eventually(lambda: client.request("GET", "/readyz").json().get("degraded") == "disk")
        assert client.request("GET", "/readyz").status_code == 200
        assert client.request("GET", f"/v2/{name}/manifests/{digest}").status_code == 200
        assert client.request("DELETE", f"/v2/{name}/manifests/v1").status_code == 202
        filler.unlink()
        eventually(lambda: "degraded" not in client.request("GET", "/readyz").json())
        client.push_manifest(name, "v2", body, OCI_MANIFEST)
        assert finish(client, location, digest_of(b"begun")).status_code == 201
        check(server)
