"""When syncs are due."""

from datetime import UTC, datetime
from itertools import pairwise

from entrepot.model.clock import MINUTE, SECOND
from entrepot.services.sync_schedule import Schedule


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def test_repositories_of_one_moment_are_spread_over_a_minute():
    schedule = Schedule("15,45 * * * *")
    moment = at("2026-03-01T12:15:00")

    due = [schedule.next(repository, at("2026-03-01T12:10:00")) for repository in range(1, 200)]

    assert min(due) == moment
    assert max(due) < moment + MINUTE
    assert len(set(due)) == 60


def test_a_repository_is_due_once_for_each_moment():
    schedule = Schedule("* * * * *")

    for repository in (1, 17, 59):
        due, found = at("2026-03-01T12:00:00"), []
        for _ in range(5):
            due = schedule.next(repository, due)
            found.append(due)
        assert {later - earlier for earlier, later in pairwise(found)} == {MINUTE}


def test_nothing_that_was_just_put_off_is_later_than_the_latest():
    schedule = Schedule("30 4 * * 1")
    now = at("2026-03-01T12:00:00")

    assert all(schedule.next(repository, now) <= schedule.latest(now) for repository in range(120))


def test_without_a_schedule_nothing_is_ever_due():
    assert not Schedule("").is_on
