"""The order of system calls that makes an answer durable on a disk that honours flush.

strace sees file, directory and log synced before the bytes of the 201 or 202 leave.
"""

import json
import re
import secrets
from itertools import pairwise

import pytest

from tests.support.server import OCI_MANIFEST, Client, digest_of, running_server
from tests.support.strace import attached, read_calls, require_tracing, workers_of

pytestmark = pytest.mark.slow

_TRACED = "openat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,rename,renameat,sendto"
_LOG = r"entrepot\.db-wal"
_ANSWER = "HTTP/1.1 20[12]"


@pytest.fixture
def server(data):
    require_tracing()
    environment = {"ENTREPOT_ANONYMOUS": "push"}
    with running_server(data, environment=environment) as server:
        yield server


@pytest.fixture
def client(server):
    client = Client(server, mode="open")
    yield client
    client.close()


def calls_of(server, tmp_path, act):
    """The system calls of the worker while `act` runs."""
    output = tmp_path / "calls"
    with attached(workers_of(server)[0], output, "-e", f"trace={_TRACED}"):
        act()
    return read_calls(output)


def last(calls, name, arguments):
    """Which of the calls came last of this name with these arguments."""
    found = [
        index
        for index, call in enumerate(calls)
        if re.fullmatch(name, call.name) and re.search(arguments, call.arguments)
    ]
    assert found, f"no {name} of {arguments}; calls: {[call.name for call in calls]}"
    return found[-1]


def require_order(calls, *steps):
    """Each step's last call ended before the next step's began."""
    places = [last(calls, name, arguments) for name, arguments in steps]
    for (before, after), step in zip(pairwise(places), steps[1:], strict=True):
        assert before < after, f"{step} came too early: {places}"
        assert calls[before].ended <= calls[after].began, f"{step} did not wait"


_LOG_IS_SYNCED = ("pwrite64|pwritev", _LOG), ("fdatasync|fsync", _LOG)
_ANSWERED = ("write|writev|sendto", _ANSWER)


def test_a_blob_is_synced_renamed_and_recorded_before_its_201(server, client, tmp_path):
    content = secrets.token_bytes(3_000_000)
    begun = client.request("POST", "/v2/order/blob/blobs/uploads/")

    def put():
        answer = client.request(
            "PUT",
            begun.headers["location"],
            params={"digest": digest_of(content)},
            content=content,
        )
        assert answer.status_code == 201

    calls = calls_of(server, tmp_path, put)

    require_order(
        calls,
        (r"pwritev2?|pwrite64", r"/uploads/"),
        ("fdatasync|fsync", r"/uploads/"),
        ("rename|renameat", r"/uploads/"),
        ("fsync", r"/blobs/[0-9a-f]{2}>"),
        *_LOG_IS_SYNCED,
        _ANSWERED,
    )


def test_a_manifest_is_recorded_before_its_201(server, client, tmp_path):
    body = json.dumps(client.make_image("order/manifest")).encode()

    def put():
        client.push_manifest("order/manifest", "v1", body, OCI_MANIFEST)

    calls = calls_of(server, tmp_path, put)

    require_order(calls, *_LOG_IS_SYNCED, _ANSWERED)


@pytest.mark.parametrize("what", ["tag", "manifest", "blob"])
def test_a_deletion_is_recorded_before_its_202(server, client, tmp_path, what):
    digest = client.push_image("order/delete", "v1")
    blob = client.push_blob("order/delete", secrets.token_bytes(9))
    path = {"tag": "manifests/v1", "manifest": f"manifests/{digest}", "blob": f"blobs/{blob}"}[what]

    def delete():
        assert client.request("DELETE", f"/v2/order/delete/{path}").status_code == 202

    calls = calls_of(server, tmp_path, delete)

    require_order(calls, *_LOG_IS_SYNCED, _ANSWERED)
