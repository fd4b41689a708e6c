"""The memory of a few seconds."""

from entrepot.model.clock import HOUR, SECOND
from entrepot.services.recent import LIFETIME, Recent
from tests.support.clock import FakeClock


def test_an_answer_is_forgotten_after_its_lifetime():
    clock = FakeClock()
    recent: Recent[str, int] = Recent(clock)
    recent.put("key", 1)

    clock.advance(LIFETIME - SECOND)
    before = recent.get("key")
    clock.advance(SECOND)

    assert before == 1
    assert recent.get("key") is None


def test_a_clock_that_is_set_back_does_not_lengthen_the_memory():
    clock = FakeClock()
    recent: Recent[str, int] = Recent(clock)
    recent.put("key", 1)

    clock.advance(-HOUR)

    assert recent.get("key") is None


def test_the_oldest_answers_go_first():
    recent: Recent[int, int] = Recent(FakeClock())

    for number in range(10_001):
        recent.put(number, number)

    assert recent.get(0) is None
    assert recent.get(10_000) == 10_000
