"""The move to a new key, on each database, while others write."""

import asyncio
import secrets

import pytest

from entrepot.db import installation, sealed
from entrepot.db.connect import connect
from entrepot.db.sealed import IDEMPOTENCY_KEYS, SEALED
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.identity.seal import Seal, key_id_of
from entrepot.model.errors import SealBroken, SealKeyMissing, StartRefused
from entrepot.services.rotation import SECRET_KEY, Rotation, recorded_key, require_key

OLD, NEW, LOST = (SecretKey.of(letter * 32) for letter in (b"o", b"n", b"l"))
BOTH = KeyRing(NEW, OLD)


@pytest.fixture
async def database(database_url):
    database = connect(database_url, pool_size=2)
    await database.open()
    yield database
    await database.close()


def ignore(done, total):
    pass


def bound_to(token_id, key):
    return IDEMPOTENCY_KEYS.bound_to(token_id, key)


async def put(database, rows):
    """Rows of (token, key, text) in the table that holds sealed answers."""

    async def work(tx):
        for token_id, key, text in rows:
            await tx.execute(
                """
                INSERT INTO idempotency_keys (token_id, key, status, sealed, created_at)
                VALUES (:token_id, :key, 201, :text, 0)
                ON CONFLICT (token_id, key) DO UPDATE SET sealed = excluded.sealed
                """,
                token_id=token_id,
                key=key,
                text=text,
            )

    await database.write(work)


async def fill(database, ring, count):
    """`count` sealed rows; what is in each, by its key."""
    secret = {(number // 3, f"key-{number}"): secrets.token_bytes(20) for number in range(count)}
    seal = Seal(ring)
    await put(database, [(*key, seal.seal(value, bound_to(*key))) for key, value in secret.items()])
    return secret


async def texts(database):
    async with database.read() as tx:
        rows = await tx.fetch_all("SELECT token_id, key, sealed FROM idempotency_keys")
    return {(token_id, key): text for token_id, key, text in rows}


async def opened(database, ring):
    return {
        key: Seal(ring).open(text, bound_to(*key)) for key, text in (await texts(database)).items()
    }


class Rival:
    """A database where somebody else writes between each read and the write that follows it."""

    def __init__(self, database, rival):
        self._database = database
        self._rival = rival

    def __getattr__(self, name):
        return getattr(self._database, name)

    async def write(self, work, *, durable=True):
        await self._rival()
        return await self._database.write(work, durable=durable)


class Twice:
    """A database whose every write runs twice, as after a COMMIT that nobody heard of."""

    def __init__(self, database):
        self._database = database

    def __getattr__(self, name):
        return getattr(self._database, name)

    async def write(self, work, *, durable=True):
        await self._database.write(work, durable=durable)
        return await self._database.write(work, durable=durable)


async def test_everything_sealed_is_moved_to_the_new_key(database):
    secret = await fill(database, KeyRing(OLD), 25)
    await require_key(database, KeyRing(OLD))
    seen = []

    done = await Rotation(database, BOTH, batch=4).finish(lambda *at: seen.append(at))

    assert (done.was_needed, done.resealed, done.unreadable_count) == (True, 25, 0)
    assert await opened(database, KeyRing(NEW)) == secret
    assert await recorded_key(database) == NEW.id
    assert seen[0] == (4, 25)
    assert seen[-1] == (25, 25)
    assert not await Rotation(database, BOTH).in_use()


async def test_a_second_run_has_nothing_to_do(database):
    await fill(database, KeyRing(OLD), 5)
    await Rotation(database, BOTH).finish(ignore)
    before = await texts(database)

    done = await Rotation(database, BOTH).finish(ignore)

    assert (done.was_needed, done.resealed) == (False, 0)
    assert await texts(database) == before


async def test_a_write_that_ran_twice_loses_nothing(database):
    secret = await fill(database, KeyRing(OLD), 5)

    await Rotation(Twice(database), BOTH, batch=2).finish(ignore)

    assert await opened(database, KeyRing(NEW)) == secret


async def test_an_old_key_counts_as_in_use_until_the_last_value_has_moved(database):
    await fill(database, KeyRing(OLD), 3)
    await require_key(database, KeyRing(OLD))

    assert await Rotation(database, BOTH).in_use() == {OLD.id: 4}  # the record of the key too
    assert not await Rotation(database, KeyRing(OLD, NEW)).in_use()
    await Rotation(database, BOTH).finish(ignore)
    assert not await Rotation(database, BOTH).in_use()


async def test_a_run_that_stopped_halfway_is_finished_by_the_next(database):
    secret = await fill(database, KeyRing(OLD), 10)

    class Stopped(Exception):
        pass

    def stop(done, total):
        if done == 6:
            raise Stopped

    with pytest.raises(Stopped):
        await Rotation(database, BOTH, batch=2).finish(stop)
    half = {key_id_of(text) for text in (await texts(database)).values()}
    done = await Rotation(database, BOTH).finish(ignore)

    assert half == {OLD.id, NEW.id}
    assert (done.was_needed, done.resealed) == (True, 4)
    assert await opened(database, KeyRing(NEW)) == secret


@pytest.mark.parametrize("ring", [KeyRing(OLD), BOTH], ids=["before it noticed", "after"])
async def test_what_a_server_writes_meanwhile_is_not_lost(database, ring):
    secret = await fill(database, KeyRing(OLD), 6)
    await require_key(database, KeyRing(OLD))
    # Before the record of the key is written, then into each batch between its read and its write.
    changes = {(9, "new"): b"added", (0, "key-1"): b"changed", (1, "key-3"): b"changed too"}
    waiting = list(changes.items())

    async def server():
        if waiting:
            key, value = waiting.pop(0)
            await put(database, [(*key, Seal(ring).seal(value, bound_to(*key)))])

    await Rotation(Rival(database, server), BOTH, batch=3).finish(ignore)

    assert await opened(database, KeyRing(NEW)) == secret | changes


async def test_a_row_that_was_deleted_meanwhile_stays_deleted(database):
    secret = await fill(database, KeyRing(OLD), 3)

    async def server():
        await database.write(
            lambda tx: tx.execute("DELETE FROM idempotency_keys WHERE key = 'key-1'")
        )

    await Rotation(Rival(database, server), BOTH).finish(ignore)

    del secret[0, "key-1"]
    assert await opened(database, KeyRing(NEW)) == secret


async def test_a_writer_that_never_pauses_does_not_keep_it_for_ever(database):
    await fill(database, KeyRing(OLD), 1)

    async def server():
        text = Seal(KeyRing(OLD)).seal(b"again", bound_to(0, "key-0"))
        await put(database, [(0, "key-0", text)])

    await Rotation(Rival(database, server), BOTH).finish(ignore)

    assert await opened(database, BOTH) == {(0, "key-0"): b"again"}


async def test_values_that_nobody_can_open_stay_as_they_are_and_are_named(database):
    secret = await fill(database, KeyRing(OLD), 3)
    odd = {
        (7, "lost"): Seal(KeyRing(LOST)).seal(b"x", bound_to(7, "lost")),
        (7, "moved"): (await texts(database))[0, "key-0"],
        (7, "odd"): "not sealed at all",
    }
    await put(database, [(*key, text) for key, text in odd.items()])

    done = await Rotation(database, BOTH).finish(ignore)

    assert (done.resealed, done.unreadable_count) == (3, 3)
    assert done.unreadable[0] == "idempotency_keys (7, 'lost')"
    now = await texts(database)
    assert {key: now.pop(key) for key in odd} == odd
    assert {key: Seal(BOTH).open(now[key], bound_to(*key)) for key in now} == secret
    assert await Rotation(database, BOTH).in_use() == {OLD.id: 1}


async def test_a_value_swapped_between_rows_or_cut_does_not_open(database):
    await fill(database, KeyRing(NEW), 6)
    first, second, cut = (0, "key-0"), (1, "key-3"), (0, "key-1")
    shorten = """
        UPDATE idempotency_keys SET sealed = SUBSTR(sealed, 1, LENGTH(sealed) - 1)
         WHERE key = 'key-1'
    """
    before = await texts(database)
    await put(database, [(*first, before[second]), (*second, before[first])])
    await database.write(lambda tx: tx.execute(shorten))

    now = await texts(database)

    for key in (first, second, cut):
        with pytest.raises(SealBroken):
            Seal(KeyRing(NEW)).open(now[key], bound_to(*key))
    assert Seal(KeyRing(NEW)).open(now[first], bound_to(*second))


async def test_without_its_key_a_value_does_not_open_and_the_rest_does(database):
    await fill(database, KeyRing(OLD), 1)
    other = (5, "other")
    await put(database, [(*other, Seal(KeyRing(NEW)).seal(b"fine", bound_to(*other)))])

    now = await texts(database)

    with pytest.raises(SealKeyMissing):
        Seal(KeyRing(NEW)).open(now[0, "key-0"], bound_to(0, "key-0"))
    assert Seal(KeyRing(NEW)).open(now[other], bound_to(*other)) == b"fine"


async def test_the_first_start_records_its_key_and_the_next_needs_it(database):
    assert await recorded_key(database) is None

    await require_key(database, KeyRing(OLD))

    assert await recorded_key(database) == OLD.id
    await require_key(database, BOTH)
    with pytest.raises(StartRefused) as refused:
        await require_key(database, KeyRing(NEW))
    for word in (OLD.id, NEW.id, "ENTREPOT_SECRET_KEY", "backup", "--lost"):
        assert word in refused.value.message
    assert await recorded_key(database) == OLD.id


@pytest.mark.parametrize("rings", [[KeyRing(OLD)] * 4, [KeyRing(OLD), KeyRing(NEW)] * 2])
async def test_nodes_that_start_at_once_agree_on_one_key(database_url, rings):
    nodes = [connect(database_url, pool_size=1) for _ in rings]
    for node in nodes:
        await node.open()

    outcomes = await asyncio.gather(
        *(require_key(node, ring) for node, ring in zip(nodes, rings, strict=True)),
        return_exceptions=True,
    )

    recorded = await recorded_key(nodes[0])
    for node in nodes:
        await node.close()
    for ring, outcome in zip(rings, outcomes, strict=True):
        if ring.current.id == recorded:
            assert outcome is None
        else:
            assert isinstance(outcome, StartRefused)


async def test_a_lost_key_can_be_given_up(database):
    await fill(database, KeyRing(LOST), 2)
    await require_key(database, KeyRing(LOST))
    work = Rotation(database, KeyRing(NEW))
    with pytest.raises(StartRefused):
        await work.finish(ignore)

    await work.accept_loss()
    done = await work.finish(ignore)

    assert done.unreadable_count == 2
    await require_key(database, KeyRing(NEW))


async def test_every_sealed_column_is_there(database):
    async with database.read(scan=True) as tx:
        for where in SEALED:
            assert await sealed.count(tx, where) == 0
            assert await sealed.page(tx, where, None, 10) == []
        assert await installation.find(tx, SECRET_KEY) is None
