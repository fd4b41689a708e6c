"""Content addresses (OCI image-spec, "Digests")."""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from entrepot.model.errors import DigestInvalid

if TYPE_CHECKING:
    from hashlib import _Hash

# Lower-case hex only: an upper-case spelling would be a second name for the same bytes.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
ALGORITHMS = ("sha256", "sha512")


@dataclass(frozen=True, slots=True)
class Digest:
    """A content address such as sha256:9f86…; well-formed once built."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:hex`. Raises DigestInvalid."""
        if _DIGEST.fullmatch(text) is None:
            message = "a digest is sha256: and 64, or sha512: and 128, lower-case hex characters"
            raise DigestInvalid(message, digest=text[:200])
        algorithm, _, hex_digits = text.partition(":")
        return cls(algorithm, hex_digits)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of bytes in memory."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse_algorithm(text: str) -> str:
    """Read the name of a digest algorithm that we can compute. Raises DigestInvalid."""
    if text not in ALGORITHMS:
        message = f"we compute {' and '.join(ALGORITHMS)} digests"
        raise DigestInvalid(message, algorithm=text[:80])
    return text


def new_hash(algorithm: str) -> "_Hash":
    """A running hash for `algorithm`, one of ALGORITHMS."""
    return hashlib.new(algorithm, usedforsecurity=True)


def is_named(digest: str, content: bytes) -> bool:
    """Whether these are the bytes that a digest names."""
    algorithm, _, hex_digits = digest.partition(":")
    return hashlib.new(algorithm, content).hexdigest() == hex_digits
