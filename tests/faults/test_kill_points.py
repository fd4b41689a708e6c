"""`kill -9` at every system call of what a registry acknowledges, then a new start.

What was acknowledged is there with the right bytes, what was not is there whole or not at all, the
client's second try succeeds, and what the crash left behind is swept.
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest

from entrepot.app import Application
from entrepot.config import load
from entrepot.model.clock import DAY, SystemClock
from tests.support.bucket import Bucket
from tests.support.invariants import check_invariants
from tests.support.journal import Journal, Key
from tests.support.kept import KeptFiles, KeptObjects
from tests.support.quick_starts import quickly_started
from tests.support.server import OCI_MANIFEST, Client, digest_of, running_server
from tests.support.strace import Killer, require_tracing, workers_of

_SHORT_POINTS = 5  # per operation and database; 60 in all
_OBJECT_POINTS = 2  # where each start takes seconds; 8 in all
_LAST_MISSES = 8
# Each of these once more by its own count, which is the same in every run.
_DECISIVE = ("fdatasync", "fsync", "rename", "unlink", "openat", "pwritev2", "pwritev", "writev")
_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}


@dataclass(frozen=True)
class Change:
    """One request, or the requests of one upload, and what they change all at once."""

    changes: dict[Key, str | None]
    send: Callable[[Client], httpx.Response]
    before: dict[Key, str | None] = field(default_factory=dict)


def push_a_blob(client, name):
    content = secrets.token_bytes(5_000)
    digest = digest_of(content)

    def send(client):
        begun = client.request("POST", f"/v2/{name}/blobs/uploads/")
        more = client.request("PATCH", begun.headers["location"], content=content)
        return client.request("PUT", more.headers["location"], params={"digest": digest})

    return Change({(name, "blobs", digest): digest}, send)


def push_a_blob_in_segments(client, name):
    pieces = [secrets.token_bytes(5_000) for _ in range(3)]
    digest = digest_of(b"".join(pieces))

    def send(client):
        answer = client.request("POST", f"/v2/{name}/blobs/uploads/")
        for piece in pieces[:2]:
            answer = client.request("PATCH", answer.headers["location"], content=piece)
        return client.request(
            "PUT", answer.headers["location"], params={"digest": digest}, content=pieces[2]
        )

    return Change({(name, "blobs", digest): digest}, send)


def put_a_manifest(client, name):
    before = client.push_image(name, "moved")
    body = json.dumps(client.make_image(name)).encode()
    digest = digest_of(body)
    path, headers = f"/v2/{name}/manifests/moved", {"content-type": OCI_MANIFEST}

    def send(client):
        return client.request("PUT", path, content=body, headers=headers)

    keys = [(name, "manifests", reference) for reference in ("moved", digest)]
    return Change(dict.fromkeys(keys, digest), send, {keys[0]: before})


def put_an_index(client, name):
    digests = [client.push_image(name, f"child{number}") for number in range(2)]
    children = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 1} for digest in digests]
    media_type = "application/vnd.oci.image.index.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": children}).encode()
    digest = digest_of(body)
    path, headers = f"/v2/{name}/manifests/index", {"content-type": media_type}

    def send(client):
        return client.request("PUT", path, content=body, headers=headers)

    keys = [(name, "manifests", reference) for reference in ("index", digest)]
    return Change(dict.fromkeys(keys, digest), send)


def delete_a_tag(client, name):
    digest = client.push_image(name, "gone")
    key = (name, "manifests", "gone")
    return Change(
        {key: None},
        lambda client: client.request("DELETE", f"/v2/{name}/manifests/gone"),
        {key: digest, (name, "manifests", digest): digest},
    )


def delete_a_manifest(client, name):
    digest = client.push_image(name, "gone")
    keys = [(name, "manifests", reference) for reference in ("gone", digest)]
    return Change(
        dict.fromkeys(keys),
        lambda client: client.request("DELETE", f"/v2/{name}/manifests/{digest}"),
        dict.fromkeys(keys, digest),
    )


def delete_a_blob(client, name):
    digest = client.push_blob(name, secrets.token_bytes(500))
    key = (name, "blobs", digest)
    return Change(
        {key: None},
        lambda client: client.request("DELETE", f"/v2/{name}/blobs/{digest}"),
        {key: digest},
    )


OPERATIONS = {
    make.__name__.replace("_", " "): make
    for make in (
        *(push_a_blob, put_a_manifest, put_an_index),
        *(delete_a_tag, delete_a_manifest, delete_a_blob),
    )
}


@dataclass
class KillLoop:
    """Kills, starts again and looks, as often as there are points."""

    data: Path
    database_url: str
    journal: Journal
    bucket: Bucket | None = None
    killed_at: Counter[str] = field(default_factory=Counter)

    @property
    def settings(self):
        return self.bucket.settings() if self.bucket else {}

    @property
    def kept(self):
        return KeptObjects(self.bucket) if self.bucket else KeptFiles(self.data)

    @contextlib.contextmanager
    def server(self):
        with self.start() as server:
            client = Client(server, mode="open")
            try:
                yield server, client
            finally:
                client.close()

    def start(self):
        """Quickly; but the threads of an object store's client do not survive a fork."""
        if self.bucket is None:
            return quickly_started(self.data, self.database_url, _OPEN)
        environment = _OPEN | self.settings | {"ENTREPOT_WORKERS": "1"}
        url = "" if self.database_url.startswith("sqlite") else self.database_url
        return running_server(self.data, database_url=url, environment=environment)

    def count(self, operation):
        """How many calls that count one operation makes."""
        with self.server() as (server, client):
            self.apply(operation(client, new_name()), client)  # connections and threads are there
            change = operation(client, new_name())
            killer = Killer(workers_of(server)[0], 0)
            self.apply(change, client)
            return len(killer.end().split())

    def kill(self, operation, points, only="", last_misses=1):
        """Kill at each of these points, until the operation ends before several in a row.

        One is not enough: how often threads wake each other differs from run to run.
        """
        change, misses = None, 0
        for nth in points:
            with self.server() as (server, client):
                if change is not None:
                    self.look(change, client)
                self.apply(operation(client, new_name()), client)
                change = operation(client, new_name())
                killer = Killer(workers_of(server)[0], nth, only)
                with contextlib.suppress(httpx.TransportError):
                    self.apply(change, client)
                server.process.kill()  # its worker dies with it, if it lives
                server.process.wait()
                said = killer.end()
            misses = 0 if said else misses + 1
            if misses == last_misses:
                break
            if not said:
                continue
            self.killed_at[said.removeprefix("killed ")] += 1
        self.finish(change)

    def look(self, change, client):
        """After a start: nothing is lost or half done, and a second try succeeds."""
        self.journal.verify(client, change.changes)
        # Objects are dated in whole seconds, by another clock.
        grace = 3_600 if self.bucket else 0
        check_invariants(self.database_url, self.kept, grace_seconds=grace)
        self.apply(change, client, again=True)

    def apply(self, change, client, *, again=False):
        if not again:
            self.journal.known |= change.before
        self.journal.begin(change.changes)
        answer = change.send(client)
        is_deletion_again = again and answer.status_code == 404 and None in change.changes.values()
        assert answer.is_success or is_deletion_again, f"{answer.status_code} {answer.text}"
        self.journal.acknowledge()

    def finish(self, change):
        """After the last start everything acknowledged is there, and the rest is swept."""
        with self.server() as (_, client):
            self.look(change, client)
            self.journal.verify(client)
        asyncio.run(self.sweep())
        later = time.time() + 30 * 86_400
        check_invariants(self.database_url, self.kept, now=later, late_seconds=0)
        assert not self.kept.staged()

    async def sweep(self):
        environment = {"ENTREPOT_DATA": str(self.data), "ENTREPOT_DATABASE__URL": self.database_url}
        environment |= self.settings
        app = Application(load(None, environment), Later())
        await app.database.open()
        try:
            while await app.uploads.sweep(limit=1_000):
                pass
            await app.uploads.sweep_strays()
            if self.bucket:  # what is left of uploads is collection's
                await app.lifecycle.collection.run()
        finally:
            await app.database.close()
            app.store.close()


class Later:
    """A clock that is a month ahead."""

    def now(self):
        return SystemClock().now() + 30 * DAY


def new_name():
    return f"killed/{secrets.token_hex(6)}"


@pytest.fixture
def loop(data, database_url, tmp_path):
    require_tracing()
    return KillLoop(data, database_url, Journal(tmp_path / "journal"))


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_was_acknowledged_survives_a_kill_at_some_points(
    loop, operation, database_kind, capsys
):
    said = kill_at_some_points(loop, operation, _SHORT_POINTS)

    with capsys.disabled():
        print(f"\n{database_kind}: {said}")


def kill_at_some_points(loop, operation, count):
    """Kill at so many points, other ones in other runs; what was done."""
    total = loop.count(operation)
    step = total / count
    assert total >= count, "the server that was counted is not the one that answered"
    start = secrets.randbelow(max(1, int(step))) + 1
    points = [int(start + number * step) for number in range(count)]
    loop.kill(operation, points, last_misses=count)
    return f"killed at {points} of {total} points: {dict(loop.killed_at)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database_kind", "operation"),
    [
        ("sqlite", push_a_blob),
        ("postgres", push_a_blob_in_segments),
        pytest.param("sqlite", push_a_blob_in_segments, marks=pytest.mark.soak),
        pytest.param("postgres", push_a_blob, marks=pytest.mark.soak),
    ],
)
def test_what_an_object_store_was_given_survives_a_kill_at_some_points(
    loop, operation, bucket, database_kind, capsys
):
    loop.bucket = bucket

    said = kill_at_some_points(loop, operation, _OBJECT_POINTS)

    with capsys.disabled():
        print(f"\n{database_kind} and objects: {said}")


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_was_acknowledged_survives_a_kill_at_every_point(
    loop, operation, database_kind, capsys
):
    loop.kill(operation, count(1), last_misses=_LAST_MISSES)
    for name in _DECISIVE:
        loop.kill(operation, count(1), name)

    with capsys.disabled():
        print(f"\n{database_kind}: {loop.killed_at.total()} kill points: {dict(loop.killed_at)}")
