"""Uploads as clients misuse them: workers that change or die, broken bodies, two at once."""

import secrets
import shutil
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.invariants import check_invariants
from tests.support.server import PLAIN, Client, digest_of, running_server
from tests.support.strace import workers_of

pytestmark = pytest.mark.slow  # workers that are killed and started again

_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}


def begin(client, name):
    return client.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]


def path_of(location):
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def offset_of(client, location):
    answer = client.request("GET", path_of(location))
    assert answer.status_code == 204, answer.text
    return int(answer.headers["range"].partition("-")[2]) + (answer.headers["range"] != "0-0")


class Fresh(Client):
    """A client that makes a new connection each time, so that any worker may get it."""

    def request(self, method, path, **options):
        with httpx.Client(base_url=self.http.base_url, timeout=60, verify=PLAIN) as http:
            return http.request(method, path, **options)


def test_an_upload_goes_on_at_any_worker_through_kills_and_a_restart(data, database_url, name):
    content = secrets.token_bytes(400_000)
    chunks = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
    location, sent = "", 0
    for is_last in (False, True):
        with running_server(
            data, database_url=database_url, workers=4, environment=_OPEN
        ) as server:
            client = Fresh(server, mode="open")
            if not is_last:
                location = path_of(begin(client, name))
            for chunk in chunks[4:] if is_last else chunks[:4]:
                headers = {"content-range": f"{sent}-{sent + len(chunk) - 1}"}
                answer = client.request("PATCH", location, content=chunk, headers=headers)
                assert answer.status_code == 202, answer.text
                location = path_of(answer.headers["location"])
                sent += len(chunk)
                if sent == 100_000:
                    for worker in workers_of(server)[:2]:
                        psutil.Process(worker).kill()
            if is_last:
                done = client.request("PUT", location, params={"digest": digest_of(content)})
                assert done.status_code == 201, done.text
                pulled = client.request("GET", f"/v2/{name}/blobs/{digest_of(content)}")
                assert pulled.content == content
            client.close()
    check_invariants(database_url, data)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    data = tmp_path_factory.mktemp("http")
    with running_server(data, workers=2, environment=_OPEN) as server:
        yield server


@pytest.fixture
def client(server):
    client = Fresh(server, mode="open")
    yield client
    client.close()


def send_raw(server, location, length, content):
    """A PATCH whose body may be shorter than it says; the open socket."""
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = (
        f"PATCH {path_of(location)} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
    )
    raw.sendall(head.encode() + content)
    return raw


def test_a_client_that_goes_in_the_middle_of_a_chunk_leaves_what_came(server, client, name):
    content = secrets.token_bytes(300_000)
    location = begin(client, name)
    with send_raw(server, location, len(content), content[:200_000]) as raw:
        raw.shutdown(socket.SHUT_WR)
        raw.recv(10)

    offset = settled_offset(client, location)

    assert offset <= 200_000
    answer = client.request("PATCH", path_of(location), content=content[offset:])
    done = client.request(
        "PUT", path_of(answer.headers["location"]), params={"digest": digest_of(content)}
    )
    assert done.status_code == 201, done.text


def settled_offset(client, location):
    """Where the upload ends once nobody writes to it: an empty chunk is taken."""
    for _ in range(500):
        answer = client.request("PATCH", path_of(location), content=b"")
        if answer.status_code == 202:
            return offset_of(client, location)
    raise AssertionError("the upload is still locked")


def test_of_two_chunks_at_once_exactly_one_is_taken(server, client, name):
    headers = {"content-range": "0-1999999"}
    for _ in range(10):
        location = path_of(begin(client, name))
        contents = [secrets.token_bytes(2_000_000) for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            answers = list(
                threads.map(
                    lambda body, to=location: client.request(
                        "PATCH", to, content=body, headers=headers
                    ),
                    contents,
                )
            )

        statuses = [answer.status_code for answer in answers]

        assert sorted(statuses) == [202, 416], statuses
        winner = contents[statuses.index(202)]
        done = client.request("PUT", location, params={"digest": digest_of(winner)})
        assert done.status_code == 201, done.text


def test_a_request_that_is_half_sent_while_another_finishes_cannot_change_the_blob(
    server, client, name
):
    content = b"what was finished"
    location = begin(client, name)
    with send_raw(server, location, 1_000_000, b"") as raw:
        answer = client.request(
            "PUT", path_of(location), params={"digest": digest_of(content)}, content=content
        )
        if answer.status_code != 201:  # the half-sent one has the lock: then it alone may write
            assert answer.status_code == 416, answer.text
            return
        raw.sendall(bytes(1_000_000))
        raw.recv(10_000)

    assert client.request("GET", f"/v2/{name}/blobs/{digest_of(content)}").content == content


class Chunks(RuleBasedStateMachine):
    """Chunk operations against an array of bytes."""

    server: Any = None

    def __init__(self):
        super().__init__()
        self.client = Fresh(self.server, mode="open")
        self.name = f"model/{secrets.token_hex(6)}"
        self.bytes = b""
        self.location = ""

    @initialize()
    def start(self):
        self.location = path_of(begin(self.client, self.name))
        self.bytes = b""

    @rule(content=st.binary(max_size=300))
    def stream(self, content):
        answer = self.client.request("PATCH", self.location, content=content)
        assert answer.status_code == 202, answer.text
        self.bytes += content

    @rule(content=st.binary(min_size=1, max_size=300), shift=st.integers(-3, 3))
    def chunk(self, content, shift):
        start = max(0, len(self.bytes) + shift)
        headers = {"content-range": f"{start}-{start + len(content) - 1}"}
        answer = self.client.request("PATCH", self.location, content=content, headers=headers)
        if start == len(self.bytes):
            assert answer.status_code == 202, answer.text
            self.bytes += content
        else:
            assert answer.status_code == 416, answer.text

    @rule(digest=st.binary(max_size=5))
    def finish_wrongly(self, digest):
        if digest == self.bytes:
            return
        answer = self.client.request("PUT", self.location, params={"digest": digest_of(digest)})
        assert answer.status_code == 400, answer.text

    @rule(content=st.binary(max_size=300))
    def finish(self, content):
        whole = self.bytes + content
        digest = digest_of(whole)
        answer = self.client.request(
            "PUT", self.location, params={"digest": digest}, content=content
        )
        assert answer.status_code == 201, answer.text
        pulled = self.client.request("GET", f"/v2/{self.name}/blobs/{digest}")
        assert pulled.content == whole
        self.start()

    @rule()
    def cancel(self):
        assert self.client.request("DELETE", self.location).status_code == 204
        assert self.client.request("GET", self.location).status_code == 404
        self.start()

    @invariant()
    def it_says_what_it_has(self):
        if self.location:
            answer = self.client.request("GET", self.location)
            end = max(0, len(self.bytes) - 1)
            assert answer.headers["range"] == f"0-{end}"

    def teardown(self):
        self.client.close()


def test_chunks_are_an_array_of_bytes():
    folder = Path(tempfile.mkdtemp())
    try:
        with running_server(folder, workers=2, environment=_OPEN) as server:
            Chunks.server = server
            case = Chunks.TestCase
            case.settings = settings(
                max_examples=10,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            case("runTest").runTest()
    finally:
        shutil.rmtree(folder)
