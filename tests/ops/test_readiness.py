"""What /readyz asks, how often, and how long it waits."""

import asyncio
import threading

import pytest

from entrepot.blobs.disk import DiskStore
from entrepot.blobs.space import Space
from entrepot.model.clock import SECOND
from entrepot.model.errors import StorageFailed, Unavailable
from entrepot.ops.readiness import AskStore, Readiness
from tests.support.clock import FakeClock


class Part:
    """Something that answers, fails or hangs, and counts who asks."""

    def __init__(self):
        self.asked = 0
        self.state = ""
        self.error = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.left = asyncio.Event()

    async def ask(self):
        self.asked += 1
        await self.gate.wait()
        self.left.set()
        if self.error is not None:
            raise self.error
        return self.state


def readiness(clock=None, seconds=0.05, **parts):
    asks = {name: part.ask for name, part in parts.items()}
    return Readiness(clock or FakeClock(), asks, seconds=seconds)


async def test_all_that_answers_is_ready():
    assert await readiness(database=Part(), store=Part()).look() == {}


async def test_what_is_degraded_is_said():
    store = Part()
    store.state = "disk"

    assert await readiness(database=Part(), store=store).look() == {"degraded": "disk"}


async def test_however_many_ask_a_part_is_asked_once_a_second():
    clock, part = FakeClock(), Part()
    ready = readiness(clock, seconds=3.0, database=part)

    await asyncio.gather(*(ready.look() for _ in range(100)))
    clock.advance(SECOND // 2)
    await ready.look()
    assert part.asked == 1

    clock.advance(SECOND)
    await ready.look()
    assert part.asked == 2


async def test_a_clock_that_is_set_back_does_not_keep_an_old_answer():
    clock, part = FakeClock(), Part()
    ready = readiness(clock, database=part)
    await ready.look()
    clock.advance(-3_600 * SECOND)

    await ready.look()

    assert part.asked == 2


async def test_a_part_that_fails_is_named_with_its_reason():
    store = Part()
    store.error = StorageFailed("the disk is gone")

    with pytest.raises(Unavailable, match=r"^the store does not answer \(the disk is gone\); "):
        await readiness(database=Part(), store=store).look()


async def test_both_parts_are_named_when_both_fail():
    database, store = Part(), Part()
    database.error = Unavailable("one")
    store.error = StorageFailed("two")

    with pytest.raises(Unavailable) as refused:
        await readiness(database=database, store=store).look()

    assert "the database does not answer (one) and the store does not answer (two)" in str(
        refused.value
    )


async def test_a_part_that_hangs_is_named_in_time_and_not_asked_again_meanwhile():
    clock, store = FakeClock(), Part()
    store.gate.clear()
    ready = readiness(clock, database=Part(), store=store)

    async with asyncio.timeout(10):
        for _ in range(3):
            with pytest.raises(Unavailable, match="the store has not answered within"):
                await ready.look()
            clock.advance(2 * SECOND)
    assert store.asked == 1

    store.gate.set()
    await store.left.wait()
    clock.advance(2 * SECOND)
    assert await ready.look() == {}


async def test_a_question_without_an_answer_is_given_up_and_put_anew():
    clock, part = FakeClock(), Part()
    part.gate.clear()
    ready = Readiness(clock, {"database": part.ask}, seconds=3.0, give_up=0.01)

    with pytest.raises(Unavailable, match="the database has not answered within 3 seconds"):
        await ready.look()

    part.gate.set()
    clock.advance(2 * SECOND)
    assert await ready.look() == {}
    assert part.asked == 2


class HungStore(DiskStore):
    """A full disk that hangs when it is asked for an object."""

    def __init__(self, folder):
        super().__init__(folder, folder, low_water_bytes=1 << 62)
        self.asked = 0
        self.gate = threading.Event()

    def require(self, *_):
        self.asked += 1
        self.gate.wait(60)


async def test_a_store_that_hangs_keeps_one_thread_however_often_it_is_asked(tmp_path):
    clock, store = FakeClock(), HungStore(tmp_path)
    ask = AskStore(store, Space(tmp_path, 0))
    ready = Readiness(clock, {"store": ask}, seconds=3.0, give_up=0.05)

    for _ in range(3):
        with pytest.raises(Unavailable, match="the store has not answered"):
            await ready.look()
        clock.advance(2 * SECOND)
    assert store.asked == 1

    store.gate.set()
    assert await ask() == "disk"
    ask.close()
    store.close()


async def test_a_data_folder_without_space_is_degraded_wherever_the_store_is(tmp_path):
    store = DiskStore(tmp_path, tmp_path, low_water_bytes=0)
    store.prepare()
    ask = AskStore(store, Space(tmp_path, 1 << 62))

    assert await Readiness(FakeClock(), {"store": ask}).look() == {"degraded": "disk"}

    ask.close()
    store.close()


async def test_whoever_gives_up_waiting_takes_no_answer_from_the_others():
    part = Part()
    part.gate.clear()
    ready = readiness(seconds=3.0, database=part)
    first, second = (asyncio.create_task(ready.look()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    part.gate.set()

    assert await second == {}
    assert part.asked == 1
