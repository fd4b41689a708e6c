"""Conditional and range requests for content that a digest names (RFC 9110, sections 13 and 14)."""

from entrepot.blobs.answers import Arriving, File
from entrepot.model.errors import RangeInvalid
from entrepot.model.ranges import parse_range
from entrepot.web.answers import Answer, Header
from entrepot.web.requests import Request


def is_known(request: Request, etag: str) -> bool:
    """Whether the client says that it has this content already (If-None-Match)."""
    header = request.header(b"if-none-match")
    if header is None:
        return False
    named = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return any(tag in {etag, "*"} for tag in named)


def answer_file(
    request: Request, file: File | Arriving, etag: str, headers: list[Header], *, range_limit: int
) -> Answer:
    """The file, or the part of it that the client asks for. Raises RangeInvalid, the file closed.

    The whole as well of what arrives without anybody having said how long it is.
    """
    header = request.header(b"range") if request.method == "GET" else None
    condition = request.header(b"if-range")
    size = file.size
    if header is None or size is None or (condition is not None and condition != etag):
        return Answer(200, headers, file)
    try:
        ranges = parse_range(header, size, range_limit)
    except RangeInvalid as error:
        if not isinstance(file, File):
            file.close()
        error.values["content_range"] = f"bytes */{size}"
        raise
    if ranges is None:
        return Answer(200, headers, file)
    if len(ranges) == 1:
        headers.append((b"content-range", ranges[0].content_range(size).encode()))
    return Answer(206, headers, file, ranges)
