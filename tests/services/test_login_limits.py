"""How often a password may be guessed, and that nobody is locked out by others."""

import asyncio
from ipaddress import ip_address

import pytest

from entrepot.db import login_attempts
from entrepot.model.clock import SECOND
from entrepot.model.errors import (
    Denied,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from entrepot.model.ids import new_id
from entrepot.services.login import (
    LONGEST_DELAY_SECONDS,
    PER_ACCOUNT_AND_ADDRESS,
    PER_ADDRESS,
    WINDOW,
    account_key,
)
from tests.services.login_place import HOME, RIGHT
from tests.services.login_place import place as place  # noqa: PLC0414  # a fixture


async def test_ten_failures_are_answered_and_the_eleventh_attempt_is_not_looked_at(place):
    await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        await place.guess()

    await place.refusal(password="wrong horse")
    await place.refusal(password=RIGHT)

    assert place.passwords.looked_at == PER_ACCOUNT_AND_ADDRESS


async def test_after_nine_failures_the_right_password_still_counts(place):
    user_id = await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS - 1):
        await place.guess()

    assert (await place.login.by_password("ada", RIGHT, HOME)).id == user_id
    assert (await place.login.by_password("ada", RIGHT, HOME)).id == user_id


async def test_a_refusal_says_when_and_ends_exactly_then(place):
    await place.user("ada")
    began = place.clock.time
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        await place.guess()
        place.clock.advance(SECOND)
    first = began + 1  # each look at the clock takes a microsecond

    refused = await place.refusal()
    place.clock.time = first + WINDOW - 2  # one microsecond is left when the clock is looked at
    late = await place.refusal()

    assert refused.values["retry_after"] == 300 - PER_ACCOUNT_AND_ADDRESS
    assert refused.message.endswith("290 seconds")
    assert late.values["retry_after"] == 1
    assert place.clock.time == first + WINDOW - 1
    await place.login.by_password("ada", RIGHT, HOME)
    await place.guess()
    await place.refusal()


async def test_refused_attempts_do_not_prolong_a_refusal(place):
    await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        await place.guess()
    for _ in range(50):
        place.clock.advance(SECOND)
        await place.refusal()

    place.clock.advance(WINDOW - 50 * SECOND)

    assert await place.login.by_password("ada", RIGHT, HOME)


async def test_another_node_counts_on(place):
    await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        await place.guess()
    place.login = place.another_node()

    await place.refusal()


async def test_a_name_that_nobody_has_is_limited_alike(place):
    await place.user("ada")
    for name in ("ada", "nobody"):
        for _ in range(PER_ACCOUNT_AND_ADDRESS):
            await place.guess(name)

    real, none = await place.refusal("ada"), await place.refusal("nobody")

    assert (real.message, real.values) == (none.message, none.values)


async def test_spellings_of_a_name_are_counted_together(place):
    for name in ("ada", "ADA", "Ada", "\uff41da", "ada"):
        await place.guess(name)
        await place.guess(name)

    await place.refusal("aDa")


async def test_long_names_are_kept_short(place):
    await place.guess("x" * 1_000_000)
    await place.guess("\ufdfa" * 64)
    await place.guess("\0\ud800\n")

    assert all(len(str(account)) <= 64 for account, _ in await place.attempts())


async def test_a_hundred_failures_from_an_address_refuse_every_account(place):
    await place.user("ada")
    for number in range(PER_ADDRESS):
        await place.guess(f"user{number}")

    refused = await place.refusal("ada")
    place.clock.advance(WINDOW)

    assert 295 <= refused.values["retry_after"] <= 300
    assert await place.login.by_password("ada", RIGHT, HOME)


async def test_a_victim_elsewhere_is_let_in_a_little_later(place):
    victim = await place.user("ada")
    for number in range(12):
        for _ in range(PER_ACCOUNT_AND_ADDRESS):
            await place.guess("ada", f"198.51.100.{number}")
    place.delays.clear()

    assert (await place.login.by_password("ada", RIGHT, HOME)).id == victim
    assert place.delays == [LONGEST_DELAY_SECONDS]


async def test_delays_begin_behind_ten_and_grow_to_two_seconds(place):
    for number in range(70):
        await place.guess("ada", f"2001:db8:{number}::1")

    assert len(place.delays) == 70 - PER_ACCOUNT_AND_ADDRESS - 1
    assert place.delays == sorted(place.delays)
    assert place.delays[0] == pytest.approx(0.05)
    assert place.delays[-1] == LONGEST_DELAY_SECONDS


async def test_failures_all_over_the_server_slow_everybody_and_refuse_nobody(place):
    await place.user("ada")

    async def flood(tx):
        for number in range(1_100):
            await login_attempts.add(
                tx,
                id=new_id(),
                account=f"user{number}",
                address=str(ip_address(number)),
                now=place.clock.time,
            )

    await place.database.write(flood)

    await place.login.by_password("ada", RIGHT, HOME)
    assert place.delays == [LONGEST_DELAY_SECONDS]


async def test_twenty_guesses_at_once_get_ten_looks(place):
    await place.user("ada")

    answers = await asyncio.gather(
        *(place.another_node().by_password("ada", "wrong horse", HOME) for _ in range(20)),
        return_exceptions=True,
    )

    assert place.passwords.looked_at == PER_ACCOUNT_AND_ADDRESS
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == 10
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 10


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("\0strange\ud800", "\0strange\ud800", True),
    ],
)
async def test_addresses_are_counted_by_who_has_them(place, first, second, together):
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        await place.guess("ada", first)

    if together:
        await place.refusal("ada", second)
    else:
        await place.guess("ada", second)


@pytest.mark.parametrize(
    "plan",
    [["before"], ["after"], ["", "before"], ["", "after"]],
    ids=["reserving", "reserved", "settling", "settled"],
)
async def test_a_failure_of_the_database_is_no_failure_of_the_caller(place, plan):
    user_id = await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS + 2):
        place.database.plan = list(plan)
        with pytest.raises(Unavailable):
            await place.login.by_password("ada", RIGHT, HOME)

    assert (await place.login.by_password("ada", RIGHT, HOME)).id == user_id
    assert await place.attempts() == []


async def test_a_write_that_runs_twice_counts_once(place):
    await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        place.database.plan = ["twice"]
        await place.guess()
    assert len(await place.attempts()) == PER_ACCOUNT_AND_ADDRESS

    place.clock.advance(WINDOW)
    place.database.plan = ["twice", "twice"]
    await place.login.by_password("ada", RIGHT, HOME)
    assert len(await place.attempts()) == PER_ACCOUNT_AND_ADDRESS


async def test_who_gives_up_has_guessed(place):
    place.passwords.meanwhile = asyncio.Event().wait

    task = asyncio.create_task(place.login.by_password("ada", "wrong horse", HOME))
    await place.passwords.began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await place.attempts() == [(account_key("ada"), HOME)]


async def test_old_attempts_are_swept_and_young_ones_stay(place):
    for number in range(3):
        await place.guess(f"user{number}")
    place.clock.advance(WINDOW)
    await place.guess("young")

    await place.login.sweep()
    await place.login.sweep()

    assert await place.attempts() == [(account_key("young"), HOME)]


async def test_more_than_a_thousand_are_swept_at_once(place):
    async def flood(tx):
        for _ in range(2_500):
            await login_attempts.add(
                tx, id=new_id(), account="ada", address=HOME, now=place.clock.time - WINDOW
            )

    await place.database.write(flood)

    await place.login.sweep()

    assert await place.attempts() == []


async def test_changing_a_password_is_limited_like_logging_in(place):
    user_id = await place.user("ada")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        with pytest.raises(Denied):
            await place.login.set_password(user_id, "wrong horse", "battery staple")

    with pytest.raises(TooManyRequests):
        await place.login.set_password(user_id, RIGHT, "battery staple")
    assert (await place.login.by_password("ada", RIGHT, HOME)).id == user_id
