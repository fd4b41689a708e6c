"""Opaque tokens: `entrepot_<kind>_<178 random bits><checksum>`; only their SHA-256 is kept.

Invitations have the same form, and a word of their own: an invitation is no credential.
"""

import hashlib
import secrets
import string
import zlib

from entrepot.model.access import Kind

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH = 30
_CHECKSUM_LENGTH = 6
_PREFIX = "entrepot"
_INVITATION = "invite"


def new_token(kind: Kind) -> str:
    """A fresh secret; show it once."""
    return _new(str(kind))


def new_invitation() -> str:
    """A fresh secret that lets somebody join; show it once."""
    return _new(_INVITATION)


def _new(word: str) -> str:
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    body = f"{_PREFIX}_{word}_{random}"
    return body + _checksum(body)


def hash_token(token: str) -> str:
    """What is stored and looked up: plain SHA-256, since the secret is random, not chosen."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_well_formed(token: str) -> bool:
    """Whether this can be a token: the checksum fits, so that a typing error costs no query."""
    return _word(token) not in {None, _INVITATION}


def is_invitation(text: str) -> bool:
    """Whether this can be an invitation, by its checksum too."""
    return _word(text) == _INVITATION


def _word(text: str) -> str | None:
    """What kind of secret `text` says it is; None for what is none of ours in form."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != _PREFIX or not text.isascii():  # noqa: PLR2004
        return None
    if len(parts[2]) != _RANDOM_LENGTH + _CHECKSUM_LENGTH:
        return None
    is_whole = _checksum(text[:-_CHECKSUM_LENGTH]) == text[-_CHECKSUM_LENGTH:]
    return parts[1] if is_whole else None


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
