"""Bearer tokens name the key that signed them."""

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.identity.bearer import BearerClaims, BearerKey
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.model.clock import SECOND, SystemClock

OLD, NEW = (SecretKey.of(letter * 32) for letter in (b"o", b"n"))
HOST = "registry.test"
NOW = SystemClock().now() // SECOND * SECOND
CLAIMS = BearerClaims(5, HOST, {"a": frozenset({"pull"})}, NOW, NOW + 300 * SECOND)


def header_of(token: str) -> dict[str, str]:
    header: dict[str, str] = jwt.get_unverified_header(token)
    return header


def test_a_token_is_signed_with_the_current_key_and_names_it():
    token = BearerKey(KeyRing(NEW, OLD)).sign(CLAIMS)

    assert header_of(token) == {"alg": "HS256", "typ": "JWT", "kid": NEW.id}
    assert BearerKey(KeyRing(NEW)).read(token, HOST) is not None


def test_a_token_of_an_old_key_is_ours_until_the_key_is_forgotten():
    token = BearerKey(KeyRing(OLD)).sign(CLAIMS)

    read = BearerKey(KeyRing(NEW, OLD)).read(token, HOST)

    assert read is not None
    assert read.token_id == 5
    assert read.access == CLAIMS.access
    assert BearerKey(KeyRing(NEW)).read(token, HOST) is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"kid": "00000000"}, {"kid": OLD.id}, {"kid": None}, {"kid": 5}, {"kid": NEW.id * 50}],
    ids=["none", "unknown", "of another key", "null", "number", "long"],
)
def test_a_token_that_names_another_key_or_none_is_not_ours(headers):
    bearer = BearerKey(KeyRing(NEW, OLD))
    _, payload, _ = bearer.sign(CLAIMS).split(".")
    header = json.dumps({"alg": "HS256", "typ": "JWT", **headers}).encode()
    head = base64.urlsafe_b64encode(header).decode().rstrip("=")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(f"{head}.{payload}".encode(), NEW.derive("bearer tokens"))
    tail = base64.urlsafe_b64encode(signature).decode().rstrip("=")

    assert bearer.read(f"{head}.{payload}.{tail}", HOST) is None


def test_a_header_without_end_is_no_token_rather_than_a_fault():
    nested = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 20_000).decode()

    assert BearerKey(KeyRing(NEW)).read(f"{nested}.e30.e30", HOST) is None


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: f"{raw.hex()}.e30.e30"))
def test_any_text_is_read_or_refused(text):
    assert BearerKey(KeyRing(NEW)).read(text, HOST) is None
