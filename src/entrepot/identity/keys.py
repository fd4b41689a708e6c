"""The installation's secret keys, kept outside of the database: they sign tokens and seal secrets.

The key text holds one key, or several: the first is current, the others only check and open what
was signed and sealed before.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import structlog

from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import StartRefused

log = structlog.get_logger()

MOST_KEYS = 32
"""Keys in one ring, at most."""

_KEY_BYTES = 32
_TEXT_LIMIT = 64 * 1024  # what is behind it is not read
_HOW = "make one with: head -c 32 /dev/urandom | base64"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """At least 32 random bytes. `id`, 8 hex digits, names the key and gives nothing of it away."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """The key of these bytes. Raises StartRefused below 32 bytes."""
        if len(secret) < _KEY_BYTES:
            message = f"the secret key has {len(secret)} bytes, it needs {_KEY_BYTES} or more"
            raise StartRefused(message)
        return cls(hmac.digest(secret, b"key id", hashlib.sha256).hex()[:8], secret)

    @classmethod
    def new(cls) -> Self:
        """A fresh one of 32 bytes."""
        return cls.of(secrets.token_bytes(_KEY_BYTES))

    @property
    def text(self) -> str:
        """The key as base64, as it is kept."""
        return base64.b64encode(self.secret).decode()

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, which says nothing of this key or any other."""
        return hmac.digest(self.secret, purpose.encode(), hashlib.sha256)


def read_keys(text: str) -> tuple[SecretKey, ...]:
    """The keys in `text`, each base64, separated by white space or commas; the first is current.

    Raises StartRefused: none, more than MOST_KEYS, not base64, or shorter than 32 bytes.
    """
    words = [word for word in re.split(r"[\s,]+", text) if word]
    if not words:
        raise StartRefused(f"the secret key is empty; {_HOW}")
    if len(words) > MOST_KEYS:
        message = f"the secret key holds {len(words)} keys, at most {MOST_KEYS} are taken"
        raise StartRefused(message)
    try:
        decoded = [base64.b64decode(word, validate=True) for word in words]
    except ValueError as error:  # binascii.Error, or a character that is not ASCII
        raise StartRefused(f"the secret key is not base64; {_HOW}") from error
    return tuple(SecretKey.of(secret) for secret in dict.fromkeys(decoded))


class KeyRing:
    """The keys of this installation. From a file, the ring follows what is written into the file.

    The file is looked at once a second at most, and whenever somebody asks for a key that is not
    there. A file that cannot be read any more leaves the ring as it is, and a line in the log.
    Raises StartRefused on first use when there is nothing to begin with.
    """

    def __init__(self, *keys: SecretKey, file: "KeyFile | None" = None) -> None:
        self._keys = {key.id: key for key in keys}
        self._file = file
        self._problem = ""

    @classmethod
    def of(cls, text: str) -> Self:
        """A ring that stays as it is. Raises StartRefused; see `read_keys`."""
        return cls(*read_keys(text))

    @classmethod
    def at(cls, path: Path, clock: Clock) -> Self:
        """The ring in a file, not yet read."""
        return cls(file=KeyFile(path, clock))

    @property
    def current(self) -> SecretKey:
        """What signs and seals now. Raises StartRefused."""
        self._follow()
        return next(iter(self._keys.values()))

    @property
    def keys(self) -> tuple[SecretKey, ...]:
        """All of them, the current one first. Raises StartRefused."""
        self._follow()
        return tuple(self._keys.values())

    def find(self, key_id: str) -> SecretKey | None:
        """The key of this id; None where the ring has none. Raises StartRefused."""
        self._follow()
        if key_id not in self._keys:
            self._follow(at_once=True)
        return self._keys.get(key_id)

    def _follow(self, *, at_once: bool = False) -> None:
        if self._file is None or (self._keys and not at_once and not self._file.is_due()):
            return
        try:
            keys = self._file.read_if_changed()
        except StartRefused as error:
            if not self._keys:
                raise
            if self._problem != error.message:  # once, not with every look
                self._problem = error.message
                log.warning("secret_key.unreadable", error=error.message)
            return
        if keys is not None:
            self._problem = ""
            self._keys = {key.id: key for key in keys}  # one step: other threads may be looking


class KeyFile:
    """A file with keys in it, and what it looked like when it was read last."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._looked_at: int | None = None
        self._seen: tuple[int, ...] | None = None

    def is_due(self) -> bool:
        """Whether the last look is a second ago, or the clock was set back."""
        return self._looked_at is None or not 0 <= self._clock.now() - self._looked_at < SECOND

    def read_if_changed(self) -> tuple[SecretKey, ...] | None:
        """The keys; None when the file looks as it did when they were read. Raises StartRefused."""
        self._looked_at = self._clock.now()
        try:
            status = self._path.stat()
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return None
            with self._path.open("rb") as file:
                text = file.read(_TEXT_LIMIT).decode()
        except FileNotFoundError as error:
            message = (
                f"there is no secret key in {self._path}: put it back from the backup, or set"
                " ENTREPOT_SECRET_KEY or ENTREPOT_SECRET_KEY_FILE to the key of this registry."
                " If it is lost for good: entrepot admin rotate-key --lost"
            )
            raise StartRefused(message) from error
        except (OSError, UnicodeDecodeError) as error:
            raise StartRefused(f"cannot read the secret key in {self._path}: {error}") from error
        keys = read_keys(text)
        # How it looked before it was read: a change in between is seen by the next look.
        self._seen = seen
        return keys
