"""The file in which a blob arrives: one writer, and what it tells its readers."""

import os

import pytest

from entrepot.blobs.spool import SpoolFolder
from entrepot.model.digests import Digest
from entrepot.model.errors import StorageFull
from entrepot.services.fetch_progress import Progress, Reader

MIB = 1 << 20
CONTENT = b"some bytes of a blob"
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def spools(tmp_path):
    folder = SpoolFolder(tmp_path / "spool", low_water_bytes=0)
    folder.prepare()
    yield folder
    folder.close()


async def test_a_spool_has_one_writer_at_a_time(spools):
    id_ = spools.new_id()
    spool = spools.write(id_, DIGEST, is_new=True)

    assert spools.write(id_, DIGEST, is_new=False) is None
    assert spools.write(id_, DIGEST, is_new=True) is None
    await spool.close()
    again = spools.write(id_, DIGEST, is_new=False)
    assert again is not None
    await again.close()


async def test_nobody_can_write_what_is_not_there(spools):
    assert spools.write(spools.new_id(), DIGEST, is_new=False) is None
    assert spools.look(spools.new_id()) is None


async def test_the_file_tells_how_it_stands(spools):
    id_ = spools.new_id()
    spool = spools.write(id_, DIGEST, is_new=True)
    view = spools.look(id_)

    await spool.append(CONTENT[:5])
    growing = view.state()
    await spool.append(CONTENT[5:])
    spool.seal()
    sealed = view.state()
    spool.discard()
    finished = view.state()

    assert (growing.size, growing.is_sealed, growing.is_gone) == (5, False, False)
    assert (sealed.size, sealed.is_sealed) == (len(CONTENT), True)
    assert not finished.is_gone
    assert spool.is_right()
    assert await view.read(0, 100) == CONTENT
    view.close()
    await spool.close()


async def test_a_spool_that_was_given_up_says_so(spools):
    id_ = spools.new_id()
    spool = spools.write(id_, DIGEST, is_new=True)
    view = spools.look(id_)

    spool.discard()

    assert view.state().is_gone
    view.close()
    await spool.close()


async def test_a_writer_sees_readers_of_other_processes(spools):
    id_ = spools.new_id()
    spool = spools.write(id_, DIGEST, is_new=True)
    view = spools.look(id_)

    before = spool.has_readers()
    view.mark_read()
    reading = spool.has_readers()
    view.close()

    assert (before, reading, spool.has_readers()) == (False, True, False)
    await spool.close()


async def test_what_a_dead_writer_left_is_hashed_before_it_counts(spools):
    id_ = spools.new_id()
    dead = spools.write(id_, DIGEST, is_new=True)
    await dead.append(CONTENT[:9])
    dead.seal()
    await dead.close()

    spool = spools.write(id_, DIGEST, is_new=False)
    await spool.catch_up()
    await spool.append(CONTENT[9:])

    assert spool.is_right()
    view = spool.view()
    assert not view.state().is_sealed  # what the dead have seen counts for nothing
    view.close()
    await spool.close()


async def test_a_new_spool_never_begins_in_the_file_of_an_old_one(spools):
    id_ = spools.new_id()
    dead = spools.write(id_, DIGEST, is_new=True)
    await dead.append(b"other bytes")
    view = spools.look(id_)
    await dead.close()

    spool = spools.write(id_, DIGEST, is_new=True)
    await spool.append(CONTENT)

    assert view.state().is_gone
    assert await view.read(0, 100) == b"other bytes"
    assert spool.is_right()
    view.close()
    await spool.close()


async def test_only_what_nobody_writes_is_removed(spools):
    id_ = spools.new_id()
    spool = spools.write(id_, DIGEST, is_new=True)
    await spool.append(CONTENT)

    alive = spools.remove_left(id_)
    await spool.close()

    assert not alive
    assert spools.remove_left(id_)
    assert not spools.remove_left(id_)
    assert spools.names() == []


async def test_a_spool_takes_what_it_expects_for_as_long_as_that_is_to_come(spools):
    spool = spools.write(spools.new_id(), DIGEST, is_new=True)
    other = spools.write(spools.new_id(), DIGEST, is_new=True)

    spool.expect(MIB)
    seen, own = spools.used_bytes(besides=other), spools.used_bytes(besides=spool)
    await spool.append(CONTENT)
    spool.seal()
    left = spools.used_bytes(besides=other)

    assert (seen, own) == (MIB, 0)
    assert len(CONTENT) <= left < MIB
    await spool.close()
    await other.close()


@pytest.mark.parametrize("name", ["", "../secret.key", "a" * 31, "A" * 32])
def test_only_names_of_spools_reach_a_path(spools, name):
    with pytest.raises(ValueError, match="not the name of a spool"):
        spools.look(name)


async def test_a_read_that_would_wait_for_the_disk_is_done_in_a_thread(spools, monkeypatch):
    id_ = spools.new_id()
    spool = spools.write(id_, DIGEST, is_new=True)
    await spool.append(CONTENT)
    view = spool.view()

    def refuses(*_):
        raise OSError(11, os.strerror(11))

    monkeypatch.setattr(os, "preadv", refuses)

    assert await view.read(0, 4) == CONTENT[:4]
    view.close()
    await spool.close()


async def test_a_spool_leaves_the_disk_what_the_database_needs(tmp_path):
    spools = SpoolFolder(tmp_path, low_water_bytes=1 << 62)
    spool = spools.write(spools.new_id(), DIGEST, is_new=True)
    assert spool

    with pytest.raises(StorageFull):
        spools.require_space()
    with pytest.raises(StorageFull):
        await spool.append(CONTENT)

    await spool.close()
    spools.close()


def test_bytes_that_come_one_by_one_are_not_all_kept():
    progress = Progress()

    for at in range(2000):
        progress.remember(at, b"x")
    progress.reach(2000)

    assert progress.recent(0, 1) == b""
    assert progress.recent(1990, 1) == b"x"


async def test_the_more_readers_the_smaller_their_pieces():
    progress = Progress()
    progress.remember(0, bytes(MIB))
    progress.reach(MIB, is_right=True)

    async def allowed():
        pass

    alone = Reader(progress, allowed)
    whole = await alone.piece(0, MIB)
    others = [Reader(progress, allowed) for _ in range(999)]
    part = await alone.piece(0, MIB)

    assert len(whole) == MIB
    assert len(part) * (1 + len(others)) <= 16 * MIB
