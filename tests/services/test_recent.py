"""The memory of recent answers: short, bounded, and never of what is not."""

from entrepot.model.clock import HOUR, SECOND
from entrepot.services.recent import LIFETIME, Recent
from tests.support.clock import FakeClock


def test_an_answer_is_forgotten_after_its_lifetime():
    clock = FakeClock()
    recent: Recent[object, object] = Recent(clock)
    recent.put("a", 1)

    clock.advance(LIFETIME - SECOND)
    assert recent.get("a") == 1

    clock.advance(SECOND)
    assert recent.get("a") is None


def test_reading_does_not_make_an_answer_younger():
    clock = FakeClock()
    recent: Recent[object, object] = Recent(clock)
    recent.put("a", 1)

    for _ in range(10):
        clock.advance(LIFETIME // 10)
        recent.get("a")

    assert recent.get("a") is None


def test_a_clock_that_is_set_back_does_not_lengthen_the_memory():
    clock = FakeClock()
    recent: Recent[object, object] = Recent(clock)
    recent.put("a", 1)

    clock.advance(-HOUR)

    assert recent.get("a") is None


def test_a_new_answer_takes_the_place_of_the_old_one_and_its_time():
    clock = FakeClock()
    recent: Recent[object, object] = Recent(clock)
    recent.put("a", 1)
    clock.advance(LIFETIME - SECOND)

    recent.put("a", 2)
    clock.advance(2 * SECOND)

    assert recent.get("a") == 2


def test_the_oldest_go_first_when_there_is_no_room():
    recent: Recent[object, object] = Recent(FakeClock())
    for number in range(10_000):
        recent.put(number, number)
    recent.put(0, "again")

    recent.put("new", 1)

    assert recent.get(1) is None
    assert recent.get(0) == "again"
    assert recent.get("new") == 1
    assert len(recent._entries) == 10_000
