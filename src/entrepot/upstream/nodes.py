"""The other nodes of this installation: what one of them fetches, the others take from it.

Their addresses come from our own rows, never from a caller or an upstream, so that the guard that
keeps requests off private networks does not stand in the way here.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import aiohttp

from entrepot.model.errors import NotFound, UpstreamDown

_READ_BUFFER = 512 << 10
_CONNECT_SECONDS = 5
_HEADER_SECONDS = 30  # the leader may still wait for its upstream
_IDLE_SECONDS = 60
_OK, _NOT_FOUND = 200, 404


@dataclass(frozen=True, slots=True)
class Relayed:
    """What another node has of a blob, from where it was asked on; `size` is the whole one's."""

    size: int | None
    pieces: AsyncIterator[bytes]


class Nodes:
    """Requests to other nodes; one pool of connections for each event loop."""

    def __init__(self, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def take(
        self, node_url: str, path: str, headers: dict[str, str]
    ) -> AsyncIterator[Relayed]:
        """Ask a node for its spool. Raises NotFound, UpstreamDown."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS + _HEADER_SECONDS):
                answer = await self._session().get(
                    f"{node_url}{path}", headers=headers, allow_redirects=False
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UpstreamDown("another node of this registry does not answer") from error
        try:
            if answer.status == _NOT_FOUND:
                raise NotFound("another node has ended this fetch")
            if answer.status != _OK:
                message = "another node of this registry refuses to hand a blob over"
                raise UpstreamDown(message, status=answer.status)
            size = answer.headers.get("x-entrepot-size", "")
            yield Relayed(int(size) if size.isdecimal() else None, _pieces(answer))
        finally:
            answer.close()

    async def close(self) -> None:
        """Close the connections of this event loop."""
        if (session := self._sessions.pop(asyncio.get_running_loop(), None)) is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            self._sessions[loop] = session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_tls(self._ca_file), limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_SECONDS, sock_read=_IDLE_SECONDS
                ),
                read_bufsize=_READ_BUFFER,
            )
        return session


def _tls(ca_file: Path | None) -> ssl.SSLContext | bool:
    """What certificates are trusted; True is what the system trusts, read once per process."""
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Raises UpstreamDown when they break off."""
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise UpstreamDown("another node of this registry broke off") from error
