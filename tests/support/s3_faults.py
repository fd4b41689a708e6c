"""What an S3 server, or the way to it, can do wrong with one request."""

from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.support.fault_proxy import Ending
from tests.support.s3_wire import Head

Rewrite = Callable[[Head, bytes], tuple[Head, bytes]]

_PHRASES = {200: "OK", 403: "Forbidden", 404: "Not Found", 500: "Error", 503: "Slow Down"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request and its answer; what is not said happens as it should.

    Positions count bytes of a body. `ending` is that of the connection, after what stops early.
    """

    name: str
    instead: tuple[Head, bytes] | None = None  # the answer; the server hears nothing
    late: float = 0.0  # seconds until the answer goes on
    request_stops_at: int | None = None
    answer_stops_at: int | None = None
    altered_at: int | None = None  # of the answer
    loses_answer: bool = False
    rewrite: Rewrite | None = None
    ending: Ending = "close"


def refused(status: int, code: str) -> Fault:
    """An error in place of doing it; with 200, one that only its body tells."""
    return Fault(f"refused {status} {code}", instead=_error(status, code))


def astray() -> Fault:
    """Answered by something before the store, which knows no objects."""
    body = b"<html><body><h1>404 Not Found</h1></body></html>"
    headers = (("Content-Type", "text/html"), ("Content-Length", str(len(body))))
    return Fault("astray", instead=(Head("HTTP/1.1 404 Not Found", headers), body))


def swallowed() -> Fault:
    """Said to be done, and not done: a part or an object that is lost."""
    done = Head("HTTP/1.1 200 OK", (("ETag", f'"{"0" * 32}"'), ("Content-Length", "0")))
    return Fault("swallowed", instead=(done, b""))


def deleted() -> Fault:
    """Said to be deleted, and not."""
    return Fault("deleted later", instead=(Head("HTTP/1.1 204 No Content", ()), b""))


def broken_request(at: int, ending: Ending = "close") -> Fault:
    """So many bytes of the body reach the server, then the connection ends on both sides."""
    return Fault(f"broken request at {at}", request_stops_at=at, ending=ending)


def lost_answer(ending: Ending = "close") -> Fault:
    """Done, and nobody gets to know."""
    return Fault(f"lost answer, {ending}", loses_answer=True, ending=ending)


def error_inside(code: str) -> Fault:
    """Done, and answered 200 with an error in the body."""
    return Fault(f"error inside {code}", rewrite=lambda *_: _error(200, code))


def rewritten(change: Callable[[bytes], bytes]) -> Fault:
    """Another body than the server's."""
    return Fault("rewritten", rewrite=lambda head, body: (head, change(body)))


def late(seconds: float) -> Fault:
    """Done at once, answered later."""
    return Fault(f"late by {seconds}", late=seconds)


def short(at: int, ending: Ending = "close") -> Fault:
    """The answer's body stops after so many bytes of those that its headers tell of."""
    return Fault(f"short at {at}", answer_stops_at=at, ending=ending)


def altered(at: int = 0) -> Fault:
    """One byte of the answer's body is another."""
    return Fault(f"altered at {at}", altered_at=at)


def _error(status: int, code: str) -> tuple[Head, bytes]:
    return _xml(status, f"<Error><Code>{escape(code)}</Code><Message>played</Message></Error>")


def _xml(status: int, text: str) -> tuple[Head, bytes]:
    body = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
    headers = (("Content-Type", "application/xml"), ("Content-Length", str(len(body))))
    return Head(f"HTTP/1.1 {status} {_PHRASES.get(status, 'Played')}", headers), body
