"""HTTP/1.1 as an S3 client and server speak it, so far as a proxy between them has to know."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

_PIECE = 1 << 16
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a request or an answer and its headers, as they came."""

    first: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """The next one. Raises IncompleteReadError when there is none."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in filter(None, lines))
        return cls(first, tuple((name, value.strip()) for name, _, value in pairs))

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first.split(" ")[1])

    def get(self, name: str) -> str:
        """The value of a header; empty without it."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> Self:
        """The same with these headers left out."""
        kept = tuple((key, value) for key, value in self.headers if key.lower() not in names)
        return replace(self, headers=kept)

    def of_size(self, size: int) -> Self:
        """The same with a body of so many bytes."""
        kept = self.without("content-length", "transfer-encoding").headers
        return replace(self, headers=(*kept, ("Content-Length", str(size))))

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.get("transfer-encoding").lower() == "chunked"

    def encode(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.first, *(f"{key}: {value}" for key, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    async def body(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """What follows it, in pieces. Raises IncompleteReadError when it breaks off."""
        if self.is_chunked:
            while size := int((await reader.readline()).split(b";")[0], 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
            while await reader.readline() not in {b"\r\n", b""}:
                pass  # trailers
            return
        left = int(self.get("content-length") or 0)
        while left:
            piece = await reader.read(min(_PIECE, left))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    def framed(self, piece: bytes) -> bytes:
        """A piece of its body as it goes over the wire."""
        if piece and self.is_chunked:  # an empty chunk would be the last
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        return piece

    @property
    def end(self) -> bytes:
        """What goes over the wire after its body."""
        return _LAST_CHUNK if self.is_chunked else b""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of S3: the operation by its name there, the bucket and the key."""

    method: str
    operation: str
    bucket: str
    key: str

    def has_content(self, answer: "Head") -> bool:
        """Whether a body follows the head of an answer to it."""
        return self.method != "HEAD" and answer.status not in {204, 304}


# What the query says, by method, with a key and without; "" is what remains.
_OF_OBJECTS = {
    "GET": {"uploadId": "ListParts", "": "GetObject"},
    "HEAD": {"": "HeadObject"},
    "PUT": {"partNumber": "UploadPart", "": "PutObject"},
    "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload"},
    "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
}
_OF_BUCKETS = {
    "GET": {"uploads": "ListMultipartUploads", "list-type": "ListObjectsV2", "": "ListObjects"},
    "HEAD": {"": "HeadBucket"},
    "PUT": {"": "CreateBucket"},
    "POST": {"delete": "DeleteObjects"},
    "DELETE": {"": "DeleteBucket"},
}


def asked_by(head: Head) -> Asked:
    """What a request in path style asks for."""
    method, target, _ = head.first.split(" ")
    parts = urlsplit(target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    names = (_OF_OBJECTS if key else _OF_BUCKETS).get(method, {})
    operation = next((name for word, name in names.items() if word in query), names.get("", ""))
    return Asked(method, operation or f"{method} {target}", bucket, key)
