"""Secrets that must be read back, sealed so that the database alone says nothing of them.

`v1.<key id>.<base64url of nonce, ciphertext and tag>`: AES-256-GCM under a key derived from the
ring. What a value is bound to (whose it is, which row, which field) is authenticated with it, so a
value that was copied into another row does not open there.
"""

import base64
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.model.errors import SealBroken, SealKeyMissing

_VERSION = "v1"
_PURPOSE = "sealed values"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_BROKEN = "a stored secret cannot be opened: it was damaged, or is not of this row"


class Seal:
    """Seals with the current key of a ring, opens with any key of it.

    Nonces are random 96 bits: a key is good for 2^32 values. A value is sealed and opened in
    memory, whole.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, secret: bytes, bound_to: Sequence[str]) -> str:
        """`secret` as ASCII text that opens with the same `bound_to` only.

        A third longer than `secret`, and 50 characters. Raises StartRefused without any key.
        """
        key = self._ring.current
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + _cipher(key).encrypt(nonce, secret, _associated_data(bound_to))
        return f"{_VERSION}.{key.id}.{_encode(sealed)}"

    def open(self, text: str, bound_to: Sequence[str]) -> bytes:
        """What was sealed.

        Raises SealBroken for what was changed, cut or bound to something else, SealKeyMissing for
        what was sealed with a key that the ring does not have.
        """
        version, _, rest = text.partition(".")
        key_id, _, body = rest.partition(".")
        try:
            sealed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        except ValueError as error:
            raise SealBroken(_BROKEN) from error
        # Base64 can be read from many texts; only the one that we wrote is ours.
        is_ours = version == _VERSION and body == _encode(sealed)
        if not is_ours or len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise SealBroken(_BROKEN)
        if (key := self._ring.find(key_id)) is None:
            message = "a stored secret was sealed with a key that this server does not have"
            raise SealKeyMissing(message, key_id=key_id)
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return _cipher(key).decrypt(nonce, ciphertext, _associated_data(bound_to))
        except InvalidTag as error:
            raise SealBroken(_BROKEN) from error


def key_id_of(text: str) -> str:
    """The id of the key that `text` says it was sealed with; empty where it says none."""
    return text.partition(".")[2].partition(".")[0]


def _cipher(key: SecretKey) -> AESGCM:
    return AESGCM(key.derive(_PURPOSE))


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _associated_data(words: Sequence[str]) -> bytes:
    """Each word behind its length, so that no two lists of words give the same bytes."""
    encoded = [word.encode() for word in words]
    return b"".join(len(word).to_bytes(4, "big") + word for word in encoded)
