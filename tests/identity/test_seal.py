"""What is sealed opens for whom it was sealed, unchanged, and for nobody else."""

import base64

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.identity.seal import Seal, key_id_of
from entrepot.model.errors import SealBroken, SealKeyMissing

OLD, NEW = (SecretKey.of(letter * 32) for letter in (b"o", b"n"))
SEAL = Seal(KeyRing(NEW, OLD))
ROW = ("7", "upstream", "password")
words = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=4)


@given(st.binary(max_size=300), words)
def test_what_is_sealed_opens_again(secret, bound_to):
    sealed = SEAL.seal(secret, bound_to)

    assert SEAL.open(sealed, bound_to) == secret
    assert sealed.isascii()
    assert key_id_of(sealed) == NEW.id
    assert len(sealed) <= len(secret) * 4 // 3 + 51


@given(words, words)
def test_what_is_sealed_opens_for_nothing_else(bound_to, other):
    assume(bound_to != other)

    with pytest.raises(SealBroken):
        SEAL.open(SEAL.seal(b"secret", bound_to), other)


def test_words_do_not_run_into_each_other():
    sealed = SEAL.seal(b"secret", ("ab", "c"))

    for other in (("a", "bc"), ("abc",), ("ab", "c", ""), ("", "ab", "c"), ("ab\0c",)):
        with pytest.raises(SealBroken):
            SEAL.open(sealed, other)


@given(st.binary(max_size=40), st.data())
def test_any_character_that_was_changed_is_noticed(secret, data):
    sealed = SEAL.seal(secret, ROW)
    place = data.draw(st.integers(0, len(sealed) - 1))
    character = data.draw(st.characters(codec="latin-1").filter(lambda c: c != sealed[place]))

    with pytest.raises((SealBroken, SealKeyMissing)):
        SEAL.open(sealed[:place] + character + sealed[place + 1 :], ROW)


@given(st.binary(max_size=40), st.data())
def test_any_bit_that_was_changed_is_noticed(secret, data):
    head, _, body = SEAL.seal(secret, ROW).rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SealBroken):
        SEAL.open(f"{head}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}", ROW)


@given(st.binary(max_size=40), st.data())
def test_a_part_of_it_does_not_open(secret, data):
    sealed = SEAL.seal(secret, ROW)
    cut = data.draw(st.integers(0, len(sealed) - 1))

    for part in (sealed[:cut], sealed[cut + 1 :], f"{sealed}A", f"{sealed}="):
        with pytest.raises((SealBroken, SealKeyMissing)):
            SEAL.open(part, ROW)


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: f"v1.{NEW.id}.{raw.hex()}"))
def test_whatever_is_in_a_column_is_opened_or_refused(text):
    with pytest.raises((SealBroken, SealKeyMissing)):
        SEAL.open(text, ROW)
    assert isinstance(key_id_of(text), str)


def test_the_same_secret_is_never_sealed_the_same():
    assert SEAL.seal(b"secret", ROW) != SEAL.seal(b"secret", ROW)


def test_an_old_key_still_opens_and_a_forgotten_one_is_named():
    sealed = Seal(KeyRing(OLD)).seal(b"secret", ROW)

    assert SEAL.open(sealed, ROW) == b"secret"
    with pytest.raises(SealKeyMissing) as missing:
        Seal(KeyRing(NEW)).open(sealed, ROW)
    assert missing.value.values == {"key_id": OLD.id}


def test_the_id_of_a_key_in_the_ring_does_not_make_another_key_open():
    sealed = Seal(KeyRing(OLD)).seal(b"secret", ROW).replace(OLD.id, NEW.id)

    with pytest.raises(SealBroken):
        SEAL.open(sealed, ROW)
