"""Row ids grow with time."""

from entrepot.model.clock import DAY, MINUTE, SystemClock
from entrepot.model.ids import id_range, new_id


def test_a_row_is_in_the_range_of_its_time_and_of_clocks_minutes_away():
    made, now = new_id(), SystemClock().now()

    for ahead in (-5 * MINUTE, 0, 5 * MINUTE):
        first, end = id_range(now + ahead, now + ahead + 1)

        assert first <= made < end


def test_a_row_is_not_in_the_range_of_another_day():
    made, now = new_id(), SystemClock().now()

    assert id_range(0, now - DAY)[1] <= made < id_range(now + DAY, 2**62)[0]


def test_a_range_without_ends_has_every_row():
    first, end = id_range(0, 2**62)

    assert (first, end) == (0, 2**63 - 1)
