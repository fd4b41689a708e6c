"""`/internal/fetches/ID?from=N`: another node of this registry takes what this one fetches."""

import structlog

from entrepot.blobs.answers import Arriving
from entrepot.model.errors import EntrepotError, NotFound, RequestInvalid
from entrepot.services.fetch_relay import PROOF_HEADER, RELAY_PATH, Relays
from entrepot.services.fetches import Fetches
from entrepot.web.answers import Answer, Header, send_answer
from entrepot.web.requests import Receive, Request, Scope, Send

log = structlog.get_logger()

_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
_BYTES: Header = (b"content-type", b"application/octet-stream")
_NOTHING = (
    b"there is nothing at this path\n"  # as for any path: whoever has no proof learns nothing
)
_DIGITS = 19


class RelaySurface:
    """Answers other nodes, which prove themselves by a key that only they have."""

    def __init__(self, fetches: Fetches, relays: Relays) -> None:
        self._fetches = fetches
        self._relays = relays

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            await send_answer(await self._answer(request), request, send)
        except EntrepotError as error:  # the other node has gone
            log.debug("relay.abandoned", error=error.message)

    async def _answer(self, request: Request) -> Answer:
        query = request.scope["query_string"].decode("latin-1")
        proof = request.header(PROOF_HEADER.encode())
        if request.method != "GET" or not self._relays.is_ours(f"{request.path}?{query}", proof):
            return Answer(404, [_TEXT], _NOTHING)
        try:
            start = _start(request)
            arriving = await self._fetches.relay(request.path.removeprefix(RELAY_PATH))
        except NotFound as error:
            return Answer(404, [_TEXT], error.message.encode())
        except EntrepotError as error:
            return Answer(503, [_TEXT], error.message.encode())
        headers = [_BYTES]
        if arriving.size is not None:
            headers.append((b"x-entrepot-size", b"%d" % arriving.size))
        return Answer(200, headers, _Rest(arriving, start))


class _Rest:
    """What arrives, from some byte on."""

    def __init__(self, whole: Arriving, start: int) -> None:
        self._whole = whole
        self._start = start

    @property
    def size(self) -> int | None:
        """How long the rest will be."""
        size = self._whole.size
        return None if size is None else max(0, size - self._start)

    async def piece(self, start: int, most: int) -> bytes:
        """As the whole's."""
        return await self._whole.piece(self._start + start, most)

    def close(self) -> None:
        """The other node wants no more."""
        self._whole.close()


def _start(request: Request) -> int:
    text = request.field("from") or ""
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise RequestInvalid("from is a number of bytes")
    return int(text)
