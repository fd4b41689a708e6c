"""What can be wrong about an answer. Each is a function from the right answer to the wrong one.

upstream.script(faults.status(429, retry_after=7), kind="blob", method="GET", times=2)
"""

import gzip as gzip_format
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.support.upstreams.wire import Gate, Phase, Reply

Fault = Callable[[Reply], Reply]

HTML = b"<!doctype html><html><title>Sign in</title><p>Please accept our terms of use.</html>"


def _bytes(reply: Reply) -> bytes:
    whole = reply.body.read_bytes() if isinstance(reply.body, Path) else reply.body
    return whole[reply.offset : reply.end]


def answer(reply: Reply) -> Fault:
    """Something else altogether."""
    return lambda _: replace(reply)


def status(
    code: int, *, retry_after: str | int | None = None, body: bytes | None = None, error: str = ""
) -> Fault:
    """An error. `body` is sent as text instead of the JSON that the specification wants."""
    headers = {"Content-Type": "application/json" if body is None else "text/plain"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    document = {"errors": [{"code": error or "UNKNOWN", "message": f"played {code}"}]}
    return lambda _: Reply(
        code, dict(headers), json.dumps(document).encode() if body is None else body
    )


def headers(**values: str) -> Fault:
    """More headers, or others: `headers(ratelimit_remaining="5;w=21600")`."""
    named = {key.replace("_", "-"): value for key, value in values.items()}
    return lambda reply: replace(reply, headers={**_without(reply, *named), **named})


def raw(content: bytes) -> Fault:
    """These bytes in place of any answer."""
    return lambda reply: replace(reply, raw=content)


def without_headers(*names: str) -> Fault:
    """Headers left out."""
    return lambda reply: replace(reply, headers=_without(reply, *names))


def _without(reply: Reply, *names: str) -> dict[str, str]:
    gone = {name.lower() for name in names}
    return {key: value for key, value in reply.headers.items() if key.lower() not in gone}


def challenge(*lines: str) -> Fault:
    """A 401 whose WWW-Authenticate has these lines; none at all if none are given."""
    value = {"WWW-Authenticate": "\n".join(lines)} if lines else {}
    return lambda _: Reply(401, {"Content-Type": "application/json", **value}, b'{"errors":[]}')


def wrong_bytes(reply: Reply) -> Reply:
    """As many bytes as there should be, the last one another. HEAD answers as it should."""
    if not reply.size:
        return reply
    right = _bytes(reply)
    return replace(reply, body=right[:-1] + bytes([right[-1] ^ 1]), offset=0, end=None)


def body(content: bytes) -> Fault:
    """Other bytes of any length, everything else as it was."""
    return lambda reply: replace(reply, body=content, offset=0, end=None, length=None)


def html(_: Reply) -> Reply:
    """A page of somebody's portal, with 200."""
    return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, HTML)


def gzip(reply: Reply) -> Reply:
    """Compressed though nobody asked."""
    packed = {**_without(reply, "content-encoding"), "Content-Encoding": "gzip"}
    return replace(
        reply, headers=packed, body=gzip_format.compress(_bytes(reply)), offset=0, end=None
    )


def truncated(at: int) -> Fault:
    """Content-Length of the whole, but the connection is closed after so many bytes."""
    return lambda reply: replace(reply, stop_at=at, ending="close")


def reset(at: int) -> Fault:
    """The connection is reset after so many bytes of the body."""
    return lambda reply: replace(reply, stop_at=at, ending="reset")


def hangs_at(at: int) -> Fault:
    """So many bytes of the body, then nothing more, the connection open."""
    return lambda reply: replace(reply, stop_at=at, ending="hang")


def hangs(phase: Phase) -> Fault:
    """Nothing at all ("headers"), half of the headers, or no body after them."""
    return lambda reply: replace(reply, hang=phase)


def slow(rate: float) -> Fault:
    """So many bytes a second."""
    return lambda reply: replace(reply, rate=rate)


def held(gate: Gate, at: int = 0) -> Fault:
    """After so many bytes of the body wait until the test opens the gate; a HEAD waits at once."""
    return lambda reply: replace(reply, gate=gate, gate_at=at)


def chunked(reply: Reply) -> Reply:
    """Without a length, in chunks: nothing wrong about that."""
    return replace(reply, headers=_without(reply, "content-length"), framing="chunked")


def unfinished_chunks(at: int) -> Fault:
    """In chunks, closed before the last one."""
    return lambda reply: replace(chunked(reply), stop_at=at, ending="close")


def until_closed(reply: Reply) -> Reply:
    """Without a length; the end of the connection is the end of the body."""
    return replace(reply, headers=_without(reply, "content-length"), framing="close")


def endless(reply: Reply) -> Reply:
    """A body in chunks that begins again whenever it ends."""
    right = _bytes(reply) or b" "
    many = right * (1 + 65_536 // len(right))  # tiny chunks would take long to get anywhere
    return replace(chunked(reply), endless=True, body=many, offset=0, end=None)


def longer(by: int = 1) -> Fault:
    """More bytes than there are, Content-Length saying so too."""
    return lambda reply: replace(reply, body=_bytes(reply) + b"\0" * by, offset=0, end=None)


def redirect(url: str, code: int = 307) -> Fault:
    """Elsewhere."""
    return lambda _: Reply(code, {"Location": url})


def ignores_range(reply: Reply) -> Reply:
    """The whole with 200, though a part was asked for."""
    if reply.status != 206:
        return reply
    return replace(reply, status=200, offset=0, end=None, headers=_without(reply, "content-range"))


def wrong_range(reply: Reply) -> Reply:
    """A 206 that says, and sends, another part than was asked for: it begins 7 bytes early."""
    if reply.status != 206:
        return reply
    offset = max(0, reply.offset - 7)
    whole = reply.body.stat().st_size if isinstance(reply.body, Path) else len(reply.body)
    says = f"bytes {offset}-{whole - 1}/{whole}"
    return replace(reply, offset=offset, headers={**reply.headers, "Content-Range": says})


def lying_range(reply: Reply) -> Reply:
    """A 206 that says what was asked for, and sends the beginning."""
    if reply.status != 206:
        return reply
    return replace(reply, offset=0, end=reply.size)


def unknown_total(reply: Reply) -> Reply:
    """A 206 that does not say how long the whole is, which RFC 9110 allows."""
    if reply.status != 206:
        return reply
    said = reply.headers["Content-Range"].rpartition("/")[0]
    return replace(reply, headers={**reply.headers, "Content-Range": f"{said}/*"})
