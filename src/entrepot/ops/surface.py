"""Health, metrics and the pages at `/` and `/join`."""

from collections.abc import Awaitable, Callable
from html import escape
from ipaddress import ip_address

import msgspec

from entrepot.model.errors import EntrepotError
from entrepot.telemetry.metrics import CONTENT_TYPE, Metrics
from entrepot.web.answers import Answer, Header, send_answer
from entrepot.web.hosts import Hosts, Networks
from entrepot.web.requests import Receive, Request, Scope, Send

Readiness = Callable[[], Awaitable[dict[str, str]]]

_JSON: Header = (b"content-type", b"application/json")
_HTML: Header = (b"content-type", b"text/html; charset=utf-8")
_TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
_GUARDS: list[Header] = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"referrer-policy", b"no-referrer"),
]

_encode = msgspec.json.Encoder().encode


class OpsSurface:
    """`/healthz` says alive, `/readyz` whether database and store answer, `/metrics` how it goes.

    `/metrics` and `/readyz` are for loopback and the networks in `allow`.
    """

    def __init__(
        self, metrics: Metrics, readiness: Readiness, hosts: Hosts, *, allow: Networks, version: str
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._hosts = hosts
        self._allow = allow
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        await send_answer(await self._answer(request), request, send)

    async def _answer(self, request: Request) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            return Answer(405, [_TEXT, (b"allow", b"GET, HEAD")], b"this path takes GET\n")
        match request.path:
            case "/":
                return Answer(200, [_HTML, *_GUARDS], self._page(request))
            case "/join":
                return Answer(200, [_HTML, *_GUARDS], self._join_page(request))
            case "/healthz":
                return Answer(200, [_TEXT], b"ok\n")
            case "/readyz" if self._is_operator(request):
                return await self._ready()
            case "/metrics" if self._is_operator(request):
                content_type = (b"content-type", CONTENT_TYPE.encode())
                return Answer(200, [content_type], await self._metrics.render())
            case _:
                return Answer(404, [_TEXT], b"there is nothing at this path\n")

    async def _ready(self) -> Answer:
        try:
            state = await self._readiness()
        except EntrepotError as error:
            return Answer(503, [_JSON], _encode({"status": "unready", "reason": error.message}))
        return Answer(200, [_JSON], _encode({"status": "ready", **state}))

    def _is_operator(self, request: Request) -> bool:
        client = request.scope.get("client")
        try:
            address = ip_address(client[0]) if client else None
        except ValueError:
            return False
        if address is None:
            return False
        if any(address in net for net in self._allow if net.version == address.version):
            return True
        return address.is_loopback and not request.is_forwarded()

    def _page(self, request: Request) -> bytes:
        host = self._hosts.service(request)
        lines = "\n".join(
            [
                f"docker login {host} -u x-token --password-stdin < data/admin.token",
                f"docker pull alpine && docker tag alpine {host}/alpine:v1",
                f"docker push {host}/alpine:v1",
            ]
        )
        return _PAGE.format(
            host=escape(host), lines=escape(lines), version=self._version, style=_STYLE
        ).encode()

    def _join_page(self, request: Request) -> bytes:
        return _JOIN_PAGE.format(host=escape(self._hosts.service(request)), style=_STYLE).encode()


_STYLE = """<style> body { font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem;
margin: 3rem auto; padding: 0 1rem } pre { background: #8881; padding: 1rem; font-size: .875rem;
white-space: pre-wrap; overflow-wrap: anywhere; border-radius: .4rem }
:root { color-scheme: light dark } </style>"""

_PAGE = """<!doctype html>
<html lang="en"> <meta charset="utf-8"> <meta name="viewport" content="width=device-width,
initial-scale=1"> <title>Entrepot at {host}</title> {style} <h1>Entrepot</h1> <p>This is the
registry at <strong>{host}</strong>. To push a first image, in the folder where it was
started:</p> <pre>{lines}</pre> <p>Any OCI client works; the user name is <code>x-token</code>, the
password a token.</p> <p>Version {version}. Programs manage it through
<a href="/api/docs">its API</a>.</p> </html>
"""

# The secret is behind the `#`, which browsers keep to themselves: this page cannot show it.
_JOIN_PAGE = """<!doctype html>
<html lang="en"> <meta charset="utf-8"> <meta name="viewport" content="width=device-width,
initial-scale=1"> <title>Join at {host}</title> {style} <h1>You are invited</h1> <p>This link lets
you join an organisation of the registry at <strong>{host}</strong>. Copy the whole address from
your browser's bar, with all that follows the <code>#</code>, and run this with it in the place of
LINK:</p> <pre>entrepot join 'LINK'</pre> <p>It asks for a name and a password, or joins the user
that you are logged in as. The link works once; keep it to yourself until then.</p> <p>If you do not
have <code>entrepot</code>, run <code>pipx install .</code> (or <code>pip install .</code>) in a
clone of its source, which whoever invited you can name.</p> </html>
"""
