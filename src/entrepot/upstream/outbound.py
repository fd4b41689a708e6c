"""The one way out: requests to other registries, guarded, bounded and timed.

No redirect is followed and no cookie kept by itself, and nothing is decompressed: the bytes are
those that were sent.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from entrepot.model.errors import (
    SettingsInvalid,
    UpstreamBroken,
    UpstreamDown,
    UpstreamError,
    UpstreamSlow,
)
from entrepot.upstream.guard import AddressRefused, Guard, GuardedResolver, Network, refused

# Measured over loopback: 64 KiB reads at 0.8x of this, and more than this gains nothing.
_READ_BUFFER = 512 << 10
_LONGEST_HEADER = 16 << 10  # tokens and presigned addresses are long
_IDENTITY = {"", "identity"}
USER_AGENT = "entrepot"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an upstream may take, in seconds.

    `headers` counts from the question, connecting included: clients of ours give up after 30
    seconds without headers. `idle` is between two pieces of a body; `body` for a whole small one.
    Over each `window` seconds of waiting, a large body must bring `slowest` bytes a second.
    """

    connect: float = 10
    headers: float = 20
    idle: float = 30
    body: float = 60
    window: float = 60
    slowest: int = 1024


class Answer:
    """An answer whose headers have arrived. `called` is how messages name who sent it."""

    def __init__(
        self, response: aiohttp.ClientResponse, url: URL, called: str, deadlines: Deadlines
    ) -> None:
        self._response = response
        self._deadlines = deadlines
        self.called = called
        self.url = url
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers

    @property
    def length(self) -> int | None:
        """How long the body will be, where that was said."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdecimal() else None

    @property
    def media_type(self) -> str:
        """The media type without parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def require_identity(self) -> None:
        """Refuse compression that was not asked for: digests are of the bytes as they are."""
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _IDENTITY:
            message = (
                f"{self.called} compresses content that was asked for as it is; whoever runs it"
                " has to switch compression off for /v2/"
            )
            raise UpstreamBroken(message, reason="encoding")

    async def body(self, limit: int) -> bytes:
        """The whole of a small body. Raises UpstreamBroken over the limit."""
        if self.length is not None and self.length > limit:
            raise self._too_large(limit)
        parts, size = [], 0
        with translated(self.called):
            async with asyncio.timeout(self._deadlines.body):
                async for piece in self._response.content.iter_any():
                    parts.append(piece)
                    size += len(piece)
                    if size > limit:
                        raise self._too_large(limit)
        return b"".join(parts)

    def _too_large(self, limit: int) -> UpstreamBroken:
        return UpstreamBroken(
            f"{self.called} sent more than the {limit} bytes that such an answer may have",
            reason="size",
        )

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives, in pieces of up to 256 KiB. Raises UpstreamDown, UpstreamSlow."""
        content, loop = self._response.content, asyncio.get_running_loop()
        waited, brought = 0.0, 0
        with translated(self.called):
            while True:
                before = loop.time()
                piece, _ = await content.readchunk()
                if not piece:
                    if content.at_eof():
                        return
                    continue
                # Only our waiting counts: a reader that is slow itself finds bytes at once.
                waited, brought = waited + loop.time() - before, brought + len(piece)
                if waited >= self._deadlines.window:
                    if brought < self._deadlines.slowest * waited:
                        raise TimeoutError
                    waited, brought = 0.0, 0
                yield piece


class Outbound:
    """Requests to other servers; one pool of connections for each event loop.

    With a `proxy` the proxy resolves names, so that addresses are judged here as far as they are
    known here. `pseudonym` is how we call ourselves in `Via` (RFC 9110, section 7.6.3), by which
    we know our own questions. Raises SettingsInvalid for a `ca_file` that cannot be read.
    """

    def __init__(
        self,
        *,
        allow: Sequence[Network] = (),
        proxy: str = "",
        ca_file: Path | None = None,
        deadlines: Deadlines | None = None,
        pseudonym: str = USER_AGENT,
    ) -> None:
        if ca_file is not None:
            _require_readable(ca_file)
        self.guard = Guard(allow)
        self.proxy = proxy
        self.ca_file = ca_file
        self._via = f"1.1 {pseudonym}"
        self._deadlines = deadlines or Deadlines()
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        url: URL,
        *,
        called: str,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """Send one request and have its answer, whatever its status.

        Raises UpstreamUnsafe, UpstreamDown, UpstreamSlow, UpstreamBroken.
        """
        await self._judge(url.raw_host or "", called)
        limits = self._deadlines
        with translated(called):
            async with asyncio.timeout(limits.headers):
                response = await self._session().request(
                    method,
                    url,
                    headers={"Accept-Encoding": "identity", **(headers or {})},
                    data=dict(form) if form is not None else None,
                    allow_redirects=False,
                    proxy=self.proxy or None,
                )
        try:
            yield Answer(response, url, called, limits)
        finally:
            response.release()  # drops the connection unless all of the body was read

    async def close(self) -> None:
        """Close the connections of this event loop."""
        if (session := self._sessions.pop(asyncio.get_running_loop(), None)) is not None:
            await session.close()

    async def _judge(self, host: str, called: str) -> None:
        self.guard.check_literal(host, called)
        if self.proxy:
            # The proxy connects, so this is all that can be judged; what does not resolve here
            # may be a name that only the proxy knows.
            resolver = GuardedResolver(self.guard)
            try:
                async with asyncio.timeout(self._deadlines.connect):
                    await resolver.resolve(host)
            except AddressRefused:
                raise refused(called) from None
            except (OSError, TimeoutError):
                return

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            self._sessions[loop] = session = self._open()
        return session

    def _open(self) -> aiohttp.ClientSession:
        limits = self._deadlines
        context = _tls(self.ca_file)
        # Whoever shares a credential waits for its budget, not for a connection: no limit here.
        connector = (
            aiohttp.TCPConnector(ssl=context, limit=0)
            if self.proxy
            else aiohttp.TCPConnector(
                ssl=context,
                limit=0,
                resolver=GuardedResolver(self.guard),
                socket_factory=self.guard.open_socket,
            )
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": USER_AGENT, "Via": self._via},
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=limits.connect,
                sock_connect=limits.connect,
                sock_read=limits.idle,
            ),
            read_bufsize=_READ_BUFFER,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )


@lru_cache(maxsize=8)
def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """The authorities that we trust; 30 ms to read."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _require_readable(ca_file: Path) -> None:
    try:
        _tls(ca_file)
    except OSError as error:
        message = f"ENTREPOT_OUTBOUND__CA_FILE {ca_file} holds no certificates that can be read"
        raise SettingsInvalid(message) from error


@contextlib.contextmanager
def translated(called: str) -> Iterator[None]:
    """The client's exceptions as ours; no address of ours or theirs in the sentence."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, AddressRefused):
            raise refused(called) from None
        for kinds, reason, raised, sentence in _MEANINGS:
            if isinstance(error, kinds):
                raise raised(f"{called} {sentence}", reason=reason) from error
        raise


_MEANINGS: tuple[
    tuple[type[Exception] | tuple[type[Exception], ...], str, type[UpstreamError], str], ...
] = (
    (
        TimeoutError,
        "timeout",
        UpstreamSlow,
        "did not answer in time; try again, or look at its status page",
    ),
    (
        aiohttp.ClientConnectorDNSError,
        "dns",
        UpstreamDown,
        "has a host without an address; check its name, and this server's DNS",
    ),
    (
        aiohttp.ClientConnectorCertificateError,
        "tls",
        UpstreamDown,
        "has no certificate that this server trusts; its operator can: ENTREPOT_OUTBOUND__CA_FILE",
    ),
    (
        aiohttp.ClientSSLError,
        "tls",
        UpstreamDown,
        "speaks no TLS that this server knows; check the port, or give its address with http://",
    ),
    (
        (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        "proxy",
        UpstreamDown,
        "is behind a proxy that does not connect: ENTREPOT_OUTBOUND__PROXY",
    ),
    (
        aiohttp.ClientConnectorError,
        "connect",
        UpstreamDown,
        "cannot be reached; check its address, and this server's network",
    ),
    (
        (aiohttp.ClientResponseError, aiohttp.InvalidURL),
        "http",
        UpstreamBroken,
        "sent an answer that is not HTTP; check its address and scheme",
    ),
    (
        (aiohttp.ClientError, OSError),
        "reset",
        UpstreamDown,
        "broke the connection off; try again",
    ),
)
