"""One request, read no further than it is needed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

from entrepot.model.errors import (
    ClientGone,
    RequestInvalid,
    RequestTimedOut,
    RequestTooLarge,
    SizeInvalid,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_QUERY_FIELDS = 1_000
_SLOWEST = 1_024  # bytes per second
_FORWARDED = frozenset({b"forwarded", b"via"})
_DRAIN_BYTES = 256 * 1024
_DRAIN_SECONDS = 1.0


class Request:
    """What a client sent. `idle_seconds` is how long it may pause within its body."""

    __slots__ = (
        "__dict__",
        "_headers",
        "_is_read",
        "_receive",
        "idle_seconds",
        "method",
        "path",
        "received",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, *, idle_seconds: float = 60.0) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.idle_seconds = idle_seconds
        self._receive = receive
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._is_read = False
        self.received = 0

    def header(self, name: bytes) -> str | None:
        """The header of this lower-case name; the last, if it came more than once."""
        value = self._headers.get(name)
        return value.decode("latin-1") if value is not None else None

    def has_header(self, name: bytes) -> bool:
        """Whether there is a header of this lower-case name."""
        return name in self._headers

    def is_forwarded(self) -> bool:
        """Whether a proxy says that it asks for somebody else."""
        return any(key in _FORWARDED or key.startswith(b"x-forwarded-") for key in self._headers)

    def came_by(self, pseudonym: str) -> bool:
        """Whether a server of this name has passed it on (`Via`, RFC 9110, section 7.6.3)."""
        if b"via" not in self._headers:
            return False
        lines = [value for key, value in self.scope["headers"] if key == b"via"]
        hops = [hop.split() for hop in b",".join(lines).decode("latin-1").split(",")]
        return any(pseudonym in hop[1:2] for hop in hops)

    def header_bytes(self) -> int:
        """How large the headers are."""
        return sum([len(key) + len(value) for key, value in self.scope["headers"]])

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query's fields. Raises RequestInvalid."""
        text = self.scope["query_string"]
        if not text:
            return {}
        message = "the query cannot be read, or has too many fields"
        if b"%00" in text:
            raise RequestInvalid(message)  # no value of ours has it, PostgreSQL takes none that has
        try:
            return parse_qs(
                text.decode("ascii"),
                keep_blank_values=True,
                max_num_fields=_QUERY_FIELDS,
                errors="strict",
            )
        except ValueError as error:
            raise RequestInvalid(message) from error

    def field(self, name: str) -> str | None:
        """The first value of a query field."""
        values = self.query.get(name)
        return values[0] if values else None

    @cached_property
    def content_length(self) -> int | None:
        """The announced length of the body, None when it comes in chunks. Raises SizeInvalid."""
        text = self.header(b"content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004  # 64 bits
            raise SizeInvalid("Content-Length is not a number")
        return int(text)

    def content_length_or_none(self) -> int | None:
        """The announced length, also None when it cannot be read."""
        try:
            return self.content_length
        except SizeInvalid:
            return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises ClientGone, RequestTimedOut, SizeInvalid.

        Waiting for `idle_seconds` ends it, and so does a trickle: what was waited for is forgiven
        when `_SLOWEST` bytes per second of that time have come.
        """
        self._is_read = True
        announced = self.content_length
        clock = asyncio.get_running_loop().time
        waited, came = 0.0, 0
        while True:
            started = clock()
            try:
                async with asyncio.timeout(self.idle_seconds - waited):
                    message = await self._receive()
            except TimeoutError as error:
                seconds = round(self.idle_seconds)
                raise RequestTimedOut(f"the body paused for {seconds} seconds") from error
            waited += clock() - started
            came += len(message.get("body", b""))
            if came >= _SLOWEST * self.idle_seconds:
                waited, came = 0.0, 0
            if message["type"] == "http.disconnect":
                raise ClientGone("the client went away before its body had arrived")
            if piece := message.get("body", b""):
                self.received += len(piece)
                yield piece
            if not message.get("more_body", False):
                break
        if announced is not None and self.received != announced:
            raise SizeInvalid(f"{self.received} bytes came where {announced} were announced")

    async def body(self, limit: int) -> bytes:
        """The body, of at most `limit` bytes. Raises RequestTooLarge, and what `pieces` does."""
        message = f"at most {limit} bytes are taken here"
        if (self.content_length or 0) > limit:
            raise RequestTooLarge(message, limit=limit)
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > limit:
                raise RequestTooLarge(message, limit=limit)
        return bytes(body)

    async def drain(self) -> bool:
        """Read the rest of a small body, so that its sender hears the answer; whether all is."""
        if self.method in {"GET", "HEAD", "DELETE"} or self.content_length_or_none() == 0:
            return True
        if self._is_read:
            return False
        drained = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for piece in self.pieces():
                    drained += len(piece)
                    if drained > _DRAIN_BYTES:
                        return False
        except (ClientGone, RequestTimedOut, SizeInvalid, TimeoutError):
            return False
        return True

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
