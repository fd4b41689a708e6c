"""Passwords that people choose: which are taken, and argon2id to keep and check them."""

import asyncio
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import Parameters, PasswordHasher
from argon2.exceptions import (
    HashingError,
    InvalidHashError,
    VerificationError,
    VerifyMismatchError,
)
from argon2.profiles import RFC_9106_LOW_MEMORY

from entrepot.model.errors import PasswordInvalid, StorageFailed, Unavailable

SHORTEST = 10  # characters after normalisation
LONGEST = 1_024
# No character of NFC stands for more than four of what was typed, so more than this is too long
# whatever it becomes, and nobody makes us normalise it.
_LONGEST_TYPED = 4 * LONGEST
_AT_ONCE = 2  # each takes 64 MiB
_WAIT_SECONDS = 30.0

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords, at most two at once in a process, in threads of its own.

    `parameters` are those of new hashes: argon2id as in RFC 9106, section 4, second choice (64 MiB,
    3 passes, 4 lanes). An older hash is checked with its own.
    """

    def __init__(self, parameters: Parameters = RFC_9106_LOW_MEMORY) -> None:
        self._hasher = PasswordHasher.from_parameters(parameters)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "passwords")
        self._dummy = _hash_of_nothing(parameters)

    async def hash(self, name: str, password: str) -> str:
        """The hash to keep for user `name`. Raises PasswordInvalid, Unavailable after 30 s."""
        typed = require_acceptable(name, password)
        return await self._in_thread(lambda: self._hasher.hash(typed))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether this is the password; without a hash it is not, which takes as long to say.

        Raises Unavailable after 30 s or without memory, StorageFailed for a hash that is none.
        """
        typed = _as_bytes(password)
        if typed is None or password_hash is None:
            await self._in_thread(lambda: self._matches(self._dummy, typed or b""))
            return False
        return await self._in_thread(lambda: self._matches(password_hash, typed))

    async def refreshed(self, password_hash: str, password: str) -> str | None:
        """A new hash of the same password where the old one has other parameters, else None.

        Raises Unavailable after 30 s or without memory.
        """
        typed = _as_bytes(password)
        if typed is None or not self._hasher.check_needs_rehash(password_hash):
            return None
        return await self._in_thread(lambda: self._hasher.hash(typed))

    def _matches(self, password_hash: str, typed: bytes) -> bool:
        try:
            return self._hasher.verify(password_hash, typed)
        except VerifyMismatchError:
            return False

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run it when one of the two threads is free; a caller who goes away gives up its place."""
        limit = asyncio.timeout(_WAIT_SECONDS)
        try:
            async with limit:
                return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable("too many passwords wait to be checked") from error
        except InvalidHashError as error:
            raise StorageFailed("the stored password cannot be read") from error
        except (HashingError, VerificationError) as error:
            message = "a password could not be hashed, perhaps for lack of memory"
            raise Unavailable(message, reason=str(error)) from error


def require_acceptable(name: str, password: str) -> bytes:
    """A password that user `name` may choose, as it is hashed. Raises PasswordInvalid.

    It has 10 to 1,024 characters and differs from the name. Nothing else is asked of it: rules
    about digits and signs make passwords worse (NIST SP 800-63B, section 5.1.1.2).
    """
    typed = _as_bytes(password) if len(password) <= _LONGEST_TYPED else b""
    if typed is None:
        raise PasswordInvalid("a password is made of characters, and this has half of one")
    length = len(typed.decode())
    if len(password) > _LONGEST_TYPED or length > LONGEST:
        message = f"a password has at most {LONGEST} characters"
        raise PasswordInvalid(message, limit=LONGEST)
    if length < SHORTEST:
        message = f"a password has at least {SHORTEST} characters"
        raise PasswordInvalid(message, limit=SHORTEST)
    if typed.decode().casefold() == unicodedata.normalize("NFC", name).casefold():
        raise PasswordInvalid("a password differs from the name of its user")
    return typed


def _as_bytes(password: str) -> bytes | None:
    """NFC in UTF-8; None for what no password is.

    NFC (RFC 8265, section 4.2: OpaqueString) makes one password of what one system types as `é`
    and another as `e` and an accent. NFKC would also make one of characters that differ to the eye,
    such as `²` and `2`, which takes strength from a password.
    """
    if len(password) > _LONGEST_TYPED:
        return None
    try:
        return unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        return None


def _hash_of_nothing(parameters: Parameters) -> str:
    """A hash that costs what a real one costs, and that no password has."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (parameters.salt_len, parameters.hash_len)
    )
    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v={parameters.version}${costs}${salt}${digest}"
