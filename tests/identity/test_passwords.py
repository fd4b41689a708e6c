"""Which passwords are taken, and how they are kept."""

import asyncio
import threading
import time

import pytest
from argon2 import extract_parameters
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY

from entrepot.identity import passwords as module
from entrepot.identity.passwords import Passwords, require_acceptable
from entrepot.model.errors import PasswordInvalid, StorageFailed, Unavailable


@pytest.fixture
def passwords():
    return Passwords(CHEAPEST)


async def test_a_hash_is_argon2id_of_the_low_memory_profile_and_has_no_password_in_it():
    kept = await Passwords().hash("ada", "correct horse")

    assert kept.startswith("$argon2id$")
    assert extract_parameters(kept) == RFC_9106_LOW_MEMORY
    assert "correct" not in kept


async def test_the_right_password_is_right_and_others_are_not(passwords):
    kept = await passwords.hash("ada", "correct horse")

    assert await passwords.verify(kept, "correct horse")
    assert not await passwords.verify(kept, "correct horsf")
    assert not await passwords.verify(kept, "")


async def test_two_hashes_of_one_password_differ(passwords):
    assert await passwords.hash("a", "correct horse") != await passwords.hash("b", "correct horse")


async def test_an_accent_may_be_typed_in_two_ways(passwords):
    kept = await passwords.hash("ada", "caf\u00e9 au lait")

    assert await passwords.verify(kept, "cafe\u0301 au lait")


async def test_characters_that_differ_to_the_eye_stay_different(passwords):
    kept = await passwords.hash("ada", "area in m\u00b2")

    assert not await passwords.verify(kept, "area in m2")


@pytest.mark.parametrize("length", [10, 11, 1_023, 1_024])
@pytest.mark.parametrize("character", ["x", "\u00e9", "e\u0301", "\U0001f600"])
def test_lengths_within_the_limits_are_taken(length, character):
    require_acceptable("ada", character * length)


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("", "a password has at least 10 characters"),
        ("x" * 9, "a password has at least 10 characters"),
        ("e\u0301" * 9, "a password has at least 10 characters"),
        ("x" * 1_025, "a password has at most 1024 characters"),
        ("x" * 10_000_000, "a password has at most 1024 characters"),
        ("ada.lovelace", "a password differs from the name of its user"),
        ("ADA.Lovelace", "a password differs from the name of its user"),
        ("half\ud800" * 3, "a password is made of characters, and this has half of one"),
    ],
)
def test_each_refusal_says_why(password, sentence):
    with pytest.raises(PasswordInvalid) as refused:
        require_acceptable("ada.lovelace", password)

    assert refused.value.message == sentence
    assert password not in refused.value.values.values()


async def test_a_refused_password_is_not_hashed(passwords):
    with pytest.raises(PasswordInvalid):
        await passwords.hash("ada", "short")


@pytest.mark.parametrize("password", ["x" * 5_000, "\ud800" * 12])
async def test_what_is_no_password_is_wrong(passwords, password):
    kept = await passwords.hash("ada", "correct horse")

    assert not await passwords.verify(kept, password)


async def test_a_hash_of_other_parameters_is_made_anew(passwords):
    old = await passwords.hash("ada", "correct horse")
    strong = Passwords()

    fresh = await strong.refreshed(old, "correct horse")

    assert fresh is not None
    assert await strong.verify(fresh, "correct horse")
    assert await strong.refreshed(fresh, "correct horse") is None


async def test_a_stored_hash_that_is_none_is_our_fault(passwords):
    with pytest.raises(StorageFailed):
        await passwords.verify("no hash at all", "correct horse")


async def test_a_missing_hash_costs_what_a_real_one_costs():
    passwords = Passwords()
    kept = await passwords.hash("ada", "correct horse")

    async def seconds(password_hash):
        started = time.process_time()
        assert not await passwords.verify(password_hash, "wrong horse")
        return time.process_time() - started

    real = min([await seconds(kept) for _ in range(5)])
    missing = min([await seconds(None) for _ in range(5)])

    assert missing == pytest.approx(real, rel=0.5)


async def test_at_most_two_are_checked_at_once(passwords, monkeypatch):
    lock, seen, now = threading.Lock(), [], 0

    def slow(*_):
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return False

    monkeypatch.setattr(passwords, "_matches", slow)
    await asyncio.gather(*(passwords.verify(None, "wrong horse") for _ in range(8)))

    assert len(seen) == 8
    assert max(seen) == 2


async def test_a_long_wait_ends_as_unavailable(passwords, monkeypatch):
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.01)
    release = threading.Event()
    monkeypatch.setattr(passwords, "_matches", lambda *_: release.wait(10))

    try:
        with pytest.raises(Unavailable):
            await passwords.verify(None, "wrong horse")
    finally:
        release.set()
