"""How background work makes way."""

from entrepot.services.rests import Rests


def rests_of(*loads):
    rests = Rests()
    for load in loads:
        rests.saw(load)
    return rests


def test_what_is_not_known_yet_is_taken_for_busy():
    rests = Rests()

    assert rests.size(100) == 10
    assert rests.length(0.010) == 0.25


def test_in_an_idle_process_steps_are_large_and_follow_each_other_at_once():
    rests = rests_of(*[0.0] * 50)

    assert rests.size(100) == 100
    assert rests.length(0.010) == 0.002


def test_a_moment_without_requests_is_no_idle_process():
    rests = rests_of(1.0, 0.0)

    assert rests.size(100) == 10
    assert rests.length(0.010) > 0.1


def test_threads_of_one_process_count_as_one_processor():
    assert rests_of(1.8).length(0.010) == 0.25


def test_what_is_late_rests_less_and_what_is_very_late_not_at_all():
    rests = Rests()

    rests.late(30)
    assert rests.length(0.010) == 0.125
    rests.late(600)
    assert rests.length(0.010) == 0.002
    assert rests.size(100) == 100


def test_a_step_of_one_stays_one():
    assert Rests().size(1) == 1
