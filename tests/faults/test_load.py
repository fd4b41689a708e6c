"""Many callers at once: one tag, one writer's queue, memory, and what the log may never hold."""

import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.support.invariants import check_invariants
from tests.support.server import OCI_MANIFEST, Client, basic, digest_of, running_server
from tests.support.strace import workers_of

pytestmark = pytest.mark.slow

_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}
_MIB = 1 << 20


def test_of_fifty_pushes_of_one_tag_one_is_last_and_readers_always_find_one(
    data, database_url, name
):
    with running_server(data, database_url=database_url, workers=2, environment=_OPEN) as server:
        client = Client(server, mode="open")
        bodies = [json.dumps(client.make_image(name)).encode() for _ in range(50)]
        digests = {digest_of(body) for body in bodies}
        client.push_manifest(name, "v1", bodies[0], OCI_MANIFEST)
        is_over = threading.Event()

        def read_all_the_time():
            seen = 0
            with httpx.Client(base_url=server.url, timeout=60, verify=server.trust) as http:
                while not is_over.is_set():
                    answer = http.get(f"/v2/{name}/manifests/v1")
                    assert answer.status_code == 200, answer.text
                    assert digest_of(answer.content) in digests
                    assert answer.headers["docker-content-digest"] == digest_of(answer.content)
                    assert http.get(f"/v2/{name}/tags/list").json()["tags"] == ["v1"]
                    seen += 1
            return seen

        def push(body):
            with httpx.Client(base_url=server.url, timeout=60, verify=server.trust) as http:
                headers = {"content-type": OCI_MANIFEST}
                return http.put(f"/v2/{name}/manifests/v1", content=body, headers=headers)

        with ThreadPoolExecutor(52) as threads:
            readers = [threads.submit(read_all_the_time) for _ in range(2)]
            answers = list(threads.map(push, bodies))
            is_over.set()
            assert all(reader.result() > 0 for reader in readers)

        assert {answer.status_code for answer in answers} == {201}
        last = client.request("GET", f"/v2/{name}/manifests/v1")
        assert digest_of(last.content) in digests
        client.close()
        check_invariants(database_url, data)


def test_pushes_and_deletions_of_one_tag_never_fail_for_each_other(data, database_url, name):
    with running_server(data, database_url=database_url, workers=2, environment=_OPEN) as server:
        client = Client(server, mode="open")
        bodies = [json.dumps(client.make_image(name)).encode() for _ in range(8)]

        def push_or_delete(number):
            path = f"/v2/{name}/manifests/v1"
            with httpx.Client(base_url=server.url, timeout=60, verify=server.trust) as http:
                if number % 3 == 2:
                    return http.delete(path).status_code
                headers = {"content-type": OCI_MANIFEST}
                return http.put(path, content=bodies[number % 8], headers=headers).status_code

        with ThreadPoolExecutor(24) as threads:
            statuses = set(threads.map(push_or_delete, range(120)))

        assert statuses <= {201, 202, 404}, statuses
        client.close()
        check_invariants(database_url, data)


def test_thirty_two_writers_and_a_long_reader_see_no_locked_database(data, name):
    with running_server(data, workers=2, environment=_OPEN) as server:
        client = Client(server, mode="open")
        blob = secrets.token_bytes(30 * _MIB)
        digest = client.push_blob(name, blob)

        def write(number):
            mine = Client(server, mode="open")
            try:
                return [mine.push_image(f"{name}-{number}", f"v{turn}") for turn in range(4)]
            finally:
                mine.close()

        with (
            ThreadPoolExecutor(32) as threads,
            client.http.stream("GET", f"/v2/{name}/blobs/{digest}") as long,
        ):
            pieces = long.iter_bytes(_MIB)
            received = bytearray(next(pieces))
            pushed = list(threads.map(write, range(32)))
            for piece in pieces:
                received += piece

        assert received == blob
        assert all(len(set(digests)) == 4 for digests in pushed)
        client.close()
        check_invariants(f"sqlite:///{data / 'entrepot.db'}", data)


def uploads_at_once(server, name, *, count, size):
    """Push so many blobs of so many bytes at once; how many bytes memory grew by."""
    worker = psutil.Process(workers_of(server)[0])
    client = Client(server, mode="open")
    client.push_blob(name, bytes(80 * _MIB))  # what the first upload needs is there
    client.close()
    before = worker.memory_info().rss
    highest = before
    is_over = threading.Event()

    def watch():
        nonlocal highest
        while not is_over.wait(0.02):
            highest = max(highest, worker.memory_info().rss)

    def upload(number):
        seed = secrets.token_bytes(_MIB)

        def content():
            for turn in range(size // _MIB):
                yield (number * 1_000_000 + turn).to_bytes(8, "big") + seed[8:]

        with httpx.Client(base_url=server.url, timeout=600, verify=server.trust) as http:
            location = http.post(f"/v2/{name}/blobs/uploads/").headers["location"]
            return http.patch(location, content=content()).status_code

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(count) as threads:
            assert set(threads.map(upload, range(count))) == {202}
    finally:
        is_over.set()
        watcher.join()
    return highest - before


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (8, 256 * _MIB),
        pytest.param(20, 1024 * _MIB, marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
    ],
)
def test_memory_does_not_grow_with_what_is_uploaded(data, name, count, size):
    with running_server(data, environment=_OPEN) as server:
        grown = uploads_at_once(server, name, count=count, size=size)

    assert grown <= (64 + 8 * count) * _MIB


def test_no_secret_is_ever_logged(data, name):
    """Not at debug level, not when requests are logged, not when they fail."""
    environment = {"ENTREPOT_LOG__LEVEL": "debug", "ENTREPOT_LOG__REQUESTS": "true"}
    canary = f"canary{secrets.token_hex(12)}"
    with running_server(data, environment=environment) as server:
        token, bearer = server.token, ""
        for mode in ("basic", "bearer"):
            client = Client(server, token=token, mode=mode)
            client.push_image(name, "v1")
            client.request("GET", f"/v2/{name}/manifests/nothing")
            bearer = client._bearer.get(name, "").removeprefix("Bearer ")
            client.close()
        with httpx.Client(base_url=server.url, verify=server.trust) as http:
            for headers in (basic(canary), {"authorization": f"Bearer {canary}"}):
                assert http.get("/v2/", headers=headers).status_code == 401
                http.post(f"/v2/{name}/blobs/uploads/", headers=headers, content=canary)
            form = {"grant_type": "password", "username": "x", "password": canary, "service": "x"}
            http.post("/v2/token", data=form)
            http.get("/v2/token", headers=basic(canary))
            metrics = http.get("/metrics").text
    log = server.log.read_text()
    key = (data / "secret.key").read_text(errors="replace").strip()

    assert "request.answered" in log
    for secret in (token, bearer, canary, key, basic(token)["authorization"]):
        assert secret
        assert secret not in log
        assert secret not in metrics
