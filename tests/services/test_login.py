"""Logging in with a password: the same answer whatever is wrong; changing it."""

import time

import pytest

from entrepot.db import users
from entrepot.identity.passwords import Passwords
from entrepot.model.errors import (
    Conflict,
    Denied,
    PasswordInvalid,
    Unauthenticated,
)
from entrepot.services.login import (
    Login,
)
from tests.services.login_place import ELSEWHERE, HOME, RIGHT
from tests.services.login_place import place as place  # noqa: PLC0414  # a fixture

TABLES = ("users", "login_attempts", "installation", "tokens", "audit_events", "idempotency_keys")


async def test_who_knows_the_password_is_let_in(place):
    user_id = await place.user("ada")

    assert (await place.login.by_password("ada", RIGHT, HOME)).id == user_id
    assert await place.attempts() == []
    assert place.delays == []


async def test_whatever_is_wrong_the_answer_is_the_same(place):
    await place.user("ada")
    await place.user("bob", is_disabled=True)
    await place.user("cyd", password=None)

    answers = [
        await place.guess("ada", password="wrong horse"),
        await place.guess("ada", password=""),
        await place.guess("bob", password=RIGHT),
        await place.guess("cyd", password=RIGHT),
        await place.guess("cyd", password=""),
        await place.guess("dan", password=RIGHT),
        await place.guess("ADA", password=RIGHT),
        await place.guess("", password=RIGHT),
        await place.guess("a\0da", password=RIGHT),
        await place.guess("\ud800", password=RIGHT),
        await place.guess("ada" * 30, password=RIGHT),
        await place.guess("ada", password="x" * 100_000),
    ]

    assert len({answer.message for answer in answers}) == 1
    assert all(answer.values == {} for answer in answers)
    assert place.passwords.looked_at == len(answers)


async def test_a_password_of_old_parameters_is_hashed_anew_at_the_next_log_in(place):
    user_id = await place.user("ada")
    strong = Login(place.database, place.clock, Passwords())

    assert (await strong.by_password("ada", RIGHT, HOME)).id == user_id
    assert (await strong.by_password("ada", RIGHT, HOME)).id == user_id

    async with place.database.read() as tx:
        account = await users.get_account(tx, user_id)
    assert account is not None
    assert "m=65536,t=3,p=4" in str(account.password_hash)
    assert account.version == 1


@pytest.mark.parametrize("change", ["disabled_at = 1", "password_hash = NULL"])
async def test_what_changes_while_a_password_is_checked_counts(place, change):
    await place.user("ada")

    async def meanwhile():
        await place.database.write(lambda tx: tx.execute(f"UPDATE users SET {change}"))

    place.passwords.meanwhile = meanwhile

    await place.guess(password=RIGHT)


async def test_a_changed_password_replaces_the_old_one(place):
    user_id = await place.user("ada")

    await place.login.set_password(user_id, RIGHT, "battery staple")

    assert (await place.login.by_password("ada", "battery staple", HOME)).id == user_id
    await place.guess(password=RIGHT)


async def test_who_has_no_password_chooses_the_first(place):
    user_id = await place.user("ada", password=None)

    await place.login.set_password(user_id, None, "battery staple")

    assert (await place.login.by_password("ada", "battery staple", HOME)).id == user_id


@pytest.mark.parametrize("current", [None, "", "wrong horse"])
async def test_a_password_is_not_changed_without_the_current_one(place, current):
    user_id = await place.user("ada")

    with pytest.raises(Denied):
        await place.login.set_password(user_id, current, "battery staple")

    assert (await place.login.by_password("ada", RIGHT, HOME)).id == user_id


async def test_a_refused_new_password_costs_no_attempt(place):
    user_id = await place.user("ada")

    with pytest.raises(PasswordInvalid):
        await place.login.set_password(user_id, "wrong horse", "short")

    assert await place.attempts() == []


async def test_disabled_and_unknown_users_change_nothing(place):
    disabled = await place.user("bob", is_disabled=True)

    for user_id in (disabled, 1):
        with pytest.raises(Denied):
            await place.login.set_password(user_id, RIGHT, "battery staple")


async def test_the_first_of_two_changes_wins(place):
    user_id = await place.user("ada")

    async def meanwhile():
        place.passwords.meanwhile = None
        await place.login.set_password(user_id, RIGHT, "battery staple")

    original = place.passwords.hash

    async def slow_hash(name, password):
        if password == "another secret":
            await meanwhile()
        return await original(name, password)

    place.passwords.hash = slow_hash
    with pytest.raises(Conflict):
        await place.login.set_password(user_id, RIGHT, "another secret")

    assert (await place.login.by_password("ada", "battery staple", HOME)).id == user_id


async def test_a_change_whose_commit_is_not_known_may_run_again(place):
    user_id = await place.user("ada")
    place.database.plan = ["", "", "twice"]

    await place.login.set_password(user_id, RIGHT, "battery staple")

    assert (await place.login.by_password("ada", "battery staple", HOME)).id == user_id


async def test_no_password_is_in_the_database(place):
    user_id = await place.user("ada")
    await place.login.by_password("ada", RIGHT, HOME)
    await place.guess(password="wrong horse")
    await place.login.set_password(user_id, RIGHT, "battery staple")

    async with place.database.read(scan=True) as tx:
        rows = [row for table in TABLES for row in await tx.fetch_all(f"SELECT * FROM {table}")]

    everything = repr(rows)
    assert "$argon2id$" in everything
    for secret in (RIGHT, "wrong horse", "battery staple"):
        assert secret not in everything


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(place):
    await place.user("ada")
    await place.user("bob", is_disabled=True)
    place.passwords = Passwords()
    strong = place.another_node()
    real = await place.passwords.hash("ada", RIGHT)
    await place.database.write(
        lambda tx: tx.execute("UPDATE users SET password_hash = :real", real=real)
    )

    async def seconds(name):
        took = []
        for _ in range(4):
            started = time.process_time()
            with pytest.raises(Unauthenticated):
                await strong.by_password(name, "wrong horse", ELSEWHERE)
            took.append(time.process_time() - started)
        return min(took)

    known, unknown, disabled = [await seconds(name) for name in ("ada", "nobody", "bob")]

    assert unknown == pytest.approx(known, rel=0.5)
    assert disabled == pytest.approx(known, rel=0.5)
