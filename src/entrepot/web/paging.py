"""Pages: how many, after which, and the link to the next (distribution-spec, "Listing Tags")."""

from urllib.parse import urlencode

from entrepot.model.errors import RequestInvalid
from entrepot.web.requests import Request


def read_limit(request: Request, *, most: int, default: int) -> int:
    """How many entries to list: `n`, clamped to `most`. Raises RequestInvalid."""
    text = request.field("n")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise RequestInvalid("n is a number, 0 or more", n=text[:40])
    return min(int(text[:18]), most)


def link_next(path: str, **fields: str | int | None) -> tuple[bytes, bytes]:
    """A Link header to the next page; relative, as clients check that it stays on this origin."""
    query = urlencode({key: value for key, value in fields.items() if value is not None})
    return b"link", f'<{path}?{query}>; rel="next"'.encode()
