"""How much one transaction takes on."""

from entrepot.services.pace import Pace


def test_batches_grow_while_they_are_quick():
    pace = Pace(100)

    for _ in range(5):
        pace.took(pace.size, 0.001)

    assert pace.size == 100


def test_a_batch_that_took_long_makes_the_next_smaller_but_not_useless():
    pace = Pace(100)

    pace.took(25, 0.025)
    assert pace.size == 15
    pace.took(15, 10.0)
    assert pace.size == 10


def test_what_was_left_of_a_plan_does_not_tell_that_more_would_be_quick():
    pace = Pace(100)

    pace.took(2, 0.001)

    assert pace.size == 25
