"""Races that architecture and reviews name, each put on by hand at the moment that hurts."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import PosixPath

import psycopg
import pytest

from entrepot.blobs.upload import UploadFile
from entrepot.model.clock import DAY, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import Conflict, StorageFailed, UploadUnknown
from entrepot.services.access import NOBODY
from tests.faults.test_interleavings import address_of, new_name, two_nodes
from tests.support.invariants import check_invariants
from tests.support.server import Client, digest_of, running_server
from tests.support.swapped import swap

_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}


_MANY = 1_000_000


class Shifted:
    """The machine's clock, ahead by as much as a test says."""

    def __init__(self):
        self.ahead = 0

    def now(self):
        return SystemClock().now() + self.ahead


async def once(content):
    yield content


async def test_a_tag_that_is_moved_and_deleted_before_a_waiting_push_takes_its_next_version(
    postgres_url, data
):
    """Three changes of one tag: the one that waits longest must not count from what it saw first."""
    async with two_nodes(data, postgres_url) as (first, second):
        name = new_name()
        bodies = [await first.image(name) for _ in range(24)]
        await first.push(name, bodies.pop(), "v1")
        first.held.hold_before(_MANY)
        await first.push(name, bodies.pop(), "v1")
        statements = _MANY - first.held._left
        while bodies:  # who is first of those that wait, the server chooses
            first.held.hold_before(statements)
            mover = asyncio.create_task(first.push(name, bodies.pop(), "v1"))
            await first.held.reached.wait()
            deleter = asyncio.create_task(second.delete_tag(name, "v1"))
            await wait_for_waiters(postgres_url, 1)
            waiting = asyncio.create_task(second.push(name, bodies.pop(), "v1"))
            await wait_for_waiters(postgres_url, 2)

            first.held.may_go_on.set()
            await asyncio.gather(mover, deleter, waiting)

            check_invariants(postgres_url, data)
            await first.push(name, await first.image(name), "v1")


async def wait_for_waiters(database_url, count):
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    async with connection, asyncio.timeout(20):
        found = 0
        while found < count:
            cursor = await connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            found = len(await cursor.fetchall())
            await asyncio.sleep(0.002)  # the server has no other way to tell


def an_upload(folder, executor=None, final=None):
    (folder / "final").mkdir(exist_ok=True)
    return UploadFile(
        executor or ThreadPoolExecutor(1),
        folder / "staged",
        final or folder / "final" / "object",
        lambda: None,
        lambda *_: None,
    )


async def test_a_request_that_opened_the_file_before_another_renamed_it_cannot_write(tmp_path):
    """A half-open PATCH must not change a blob that is already shared."""
    with ThreadPoolExecutor(2) as executor:
        first = an_upload(tmp_path, executor)
        first.open(is_new=True)
        await first.append(once(b"shared"), 0, [])
        second = an_upload(tmp_path, executor)
        lock = second._lock

        def commit_first_and_lock(fd, path):
            # Between the open and the lock of the second.
            first._commit()
            os.close(first._fd)
            lock(fd, path)

        second._lock = commit_first_and_lock

        with pytest.raises(Conflict):
            second.open(is_new=False)

    assert (tmp_path / "final" / "object").read_bytes() == b"shared"


async def test_an_upload_that_was_renamed_after_a_look_does_not_begin_again(tmp_path):
    """Its new file would be renamed over the object of the first."""
    with ThreadPoolExecutor(2) as executor:
        first = an_upload(tmp_path, executor)
        first.open(is_new=True)
        await first.append(once(b"shared"), 0, [])

        class Late(PosixPath):
            """Says that the object is not there, and then it is."""

            def exists(self, **options):
                found = super().exists(**options)
                if not found and first._fd >= 0:
                    first._commit()
                    os.close(first._fd)
                    first._fd = -1
                return found

        second = an_upload(tmp_path, executor, Late(tmp_path / "final" / "object"))

        with pytest.raises(Conflict):
            second.open(is_new=True)

    assert not (tmp_path / "staged").exists()


async def test_a_background_sync_that_failed_ends_the_upload_even_when_nobody_asks(tmp_path):
    """The kernel reports it once: a later sync would succeed without the bytes."""
    with ThreadPoolExecutor(2) as executor:
        upload = an_upload(tmp_path, executor)
        upload.open(is_new=True)
        await upload.append(once(b"acknowledged"), 0, [])
        begun = threading.Event()

        def fail():
            begun.set()
            raise StorageFailed("the disk failed")

        upload._syncing = upload._submit(fail)
        begun.wait(10)
        await upload.close()

    assert not (tmp_path / "staged").exists()


async def test_a_background_sync_that_failed_fails_the_request_that_began_it(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        upload = an_upload(tmp_path, executor)
        upload.open(is_new=True)

        def fail():
            raise StorageFailed("the disk failed")

        upload._syncing = upload._submit(fail)
        with pytest.raises(StorageFailed):
            await upload.append(once(b"bytes"), 0, [])
        await upload.close()


async def test_a_sweeper_that_read_before_a_slow_writer_ended_keeps_the_session(database_url, data):
    """What was expired when the list was read may be alive when the lock is had."""
    async with two_nodes(data, database_url) as (first, second):
        name, content = new_name(), b"slow"
        session = await first.registry.uploads.open(NOBODY, address_of(name), algorithm="sha256")
        clock = Shifted()
        sweeping = second.registry.uploads
        swap(sweeping, clock=clock)
        store = sweeping._store
        listed = store.upload

        def end_the_writer_and_open(key):
            # Between the sweeper's list and its lock: a slow PATCH ends and renews its session.
            clock.ahead = 0
            return listed(key)

        with contextlib.ExitStack() as undo:
            store.upload = end_the_writer_and_open
            undo.callback(setattr, store, "upload", listed)
            clock.ahead = 8 * DAY
            after = await first.registry.uploads.append(session, once(content), None)
            await sweeping.sweep()

        found = await first.registry.uploads.find(
            NOBODY,
            await repository_of(first, name),
            session.id,
            opened_before=2**62,
        )
        assert found.size == after.size == len(content)


async def repository_of(node, name):
    return await node.registry.addresses.where(address_of(name))


async def test_an_expired_session_is_gone_and_its_file_does_not_come_back(database_url, data):
    async with two_nodes(data, database_url) as (first, second):
        name = new_name()
        session = await first.registry.uploads.open(NOBODY, address_of(name), algorithm="sha256")
        session = await first.registry.uploads.append(session, once(b"some"), None)
        clock = Shifted()
        clock.ahead = 8 * DAY
        swap(second.registry.uploads, clock=clock)
        await second.registry.uploads.sweep()

        with pytest.raises(UploadUnknown):
            await first.registry.uploads.append(session, once(b"more"), None)

        assert not list((data / "uploads").iterdir())


async def test_the_sweeper_leaves_a_session_that_is_being_written_to(database_url, data):
    async with two_nodes(data, database_url) as (first, second):
        name = new_name()
        session = await first.registry.uploads.open(NOBODY, address_of(name), algorithm="sha256")
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slowly():
            yield b"x" * (1 << 20)
            begun.set()
            await may_end.wait()
            yield b"y"

        writing = asyncio.create_task(first.registry.uploads.append(session, slowly(), None))
        await begun.wait()
        clock = Shifted()
        clock.ahead = 8 * DAY
        swap(second.registry.uploads, clock=clock)
        await second.registry.uploads.sweep()
        may_end.set()

        after = await writing

        assert after.size == (1 << 20) + 1
        content = b"x" * (1 << 20) + b"y"
        await second.registry.uploads.commit(
            NOBODY, address_of(name), after, Digest.of(content, "sha256"), once(b""), None
        )
        check_invariants(database_url, data)


@pytest.mark.parametrize("is_after_power_loss", [True, False])
def test_a_digest_that_was_durable_before_its_bytes_does_not_count(data, is_after_power_loss):
    """A relaxed row can become durable by another's commit, and its bytes be lost with the power."""
    content = b"synced by nobody yet"
    with running_server(data, environment=_OPEN) as server:
        client = Client(server, mode="open")
        begun = client.request("POST", "/v2/a/b/blobs/uploads/")
        sent = client.request("PATCH", begun.headers["location"], content=content)
        location = sent.headers["location"]
        client.close()
    if is_after_power_loss:
        for path in (data / "uploads").iterdir():
            path.write_bytes(bytes(len(content)))
        with closing(sqlite3.connect(data / "entrepot.db")) as connection, connection:
            connection.execute("UPDATE uploads SET boot_id = 'the one before'")

    with running_server(data, environment=_OPEN) as server:
        client = Client(server, mode="open")
        path = location.removeprefix("http://").partition("/")[2]
        done = client.request("PUT", f"/{path}", params={"digest": digest_of(content)})
        client.close()

    assert done.status_code == (400 if is_after_power_loss else 201), done.text
    check_invariants(f"sqlite:///{data / 'entrepot.db'}", data)
