"""The ring of secret keys: how it is read, and how it follows its file."""

import base64

import pytest
import structlog

from entrepot.identity.keys import MOST_KEYS, KeyRing, SecretKey, read_keys
from entrepot.model.clock import SECOND
from entrepot.model.errors import StartRefused
from tests.support.clock import FakeClock

OLD, NEW, OTHER = (SecretKey.of(letter * 32) for letter in (b"o", b"n", b"x"))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "secret.key"
    file.write_text(f"{OLD.text}\n")
    return file


@pytest.mark.parametrize("between", ["\n", ",", " ", "\r\n", " ,\n\t", "\n\n"])
def test_a_ring_is_keys_on_lines_or_between_commas_the_first_current(between):
    ring = KeyRing.of(f"{NEW.text}{between}{OLD.text}{between}")

    assert ring.current == NEW
    assert ring.keys == (NEW, OLD)
    assert ring.find(OLD.id) == OLD
    assert ring.find(OTHER.id) is None


def test_a_key_that_is_there_twice_is_one_key():
    assert read_keys(f"{NEW.text} {OLD.text} {NEW.text}") == (NEW, OLD)


def test_an_id_names_a_key_and_neither_id_nor_repr_gives_it_away():
    assert len({key.id for key in (OLD, NEW, OTHER)}) == 3
    assert all(len(key.id) == 8 and int(key.id, 16) >= 0 for key in (OLD, NEW))
    assert OLD.secret.hex()[:8] != OLD.id
    assert "oooo" not in repr(OLD)


def test_keys_for_two_purposes_differ():
    assert OLD.derive("bearer tokens") != OLD.derive("sealed values")
    assert OLD.derive("bearer tokens") != NEW.derive("bearer tokens")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" ,\n", "empty"),
        ("not base64!", "not base64"),
        ("schlüssel", "not base64"),
        (base64.b64encode(b"k" * 31).decode(), "31 bytes"),
        (f"{OLD.text},AAAA", "3 bytes"),
        ("\n".join([OLD.text] * (MOST_KEYS + 1)), f"at most {MOST_KEYS}"),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(text, said):
    with pytest.raises(StartRefused) as refused:
        read_keys(text)

    assert said in refused.value.message
    assert OLD.text not in refused.value.message


def test_a_ring_looks_at_its_file_once_a_second(path):
    clock = FakeClock()
    ring = KeyRing.at(path, clock)
    assert ring.current == OLD

    path.write_text(f"{NEW.text}\n{OLD.text}\n")

    assert ring.current == OLD
    clock.advance(SECOND)
    assert ring.current == NEW
    assert ring.find(OLD.id) == OLD


def test_a_ring_looks_at_its_file_at_once_for_a_key_that_it_lacks(path):
    ring = KeyRing.at(path, FakeClock())
    assert ring.find(NEW.id) is None

    path.write_text(f"{NEW.text}\n{OLD.text}\n")

    assert ring.find(NEW.id) == NEW
    assert ring.current == NEW


def test_a_key_that_was_taken_out_of_the_file_is_forgotten(path):
    clock = FakeClock()
    path.write_text(f"{NEW.text}\n{OLD.text}\n")
    ring = KeyRing.at(path, clock)
    assert ring.find(OLD.id) == OLD

    path.write_text(f"{NEW.text}\n")
    clock.advance(SECOND)

    assert ring.find(OLD.id) is None


def test_a_ring_follows_its_file_when_the_clock_was_set_back(path):
    clock = FakeClock()
    ring = KeyRing.at(path, clock)
    assert ring.current == OLD

    path.write_text(f"{NEW.text}\n")
    clock.advance(-3600 * SECOND)

    assert ring.current == NEW


@pytest.mark.parametrize("damage", ["", "half a ke", "\xff"])
def test_a_file_that_breaks_leaves_the_ring_as_it_is_and_one_line_in_the_log(path, damage):
    clock = FakeClock()
    ring = KeyRing.at(path, clock)
    assert ring.current == OLD

    path.write_bytes(damage.encode("latin-1"))
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            clock.advance(SECOND)
            assert ring.current == OLD
            assert ring.find(NEW.id) is None

    assert [line["event"] for line in lines] == ["secret_key.unreadable"]
    path.write_text(f"{NEW.text}\n")
    assert ring.find(NEW.id) == NEW


def test_a_file_that_vanishes_leaves_the_ring_as_it_is(path):
    clock = FakeClock()
    ring = KeyRing.at(path, clock)
    assert ring.current == OLD

    path.unlink()
    clock.advance(SECOND)

    assert ring.current == OLD


def test_without_a_file_there_is_no_ring_however_often_one_asks(tmp_path):
    ring = KeyRing.at(tmp_path / "secret.key", FakeClock())

    for _ in range(2):
        with pytest.raises(StartRefused, match="put it back from the backup"):
            _ = ring.current
    with pytest.raises(StartRefused):
        ring.find(OLD.id)
