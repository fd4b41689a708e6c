"""What really lies where the bytes are, as a stranger sees it: a data folder's files, or a bucket."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.bucket import Bucket

_CHUNK = 1 << 20
_OF_THE_STORE = ("collection.epoch/", "store.id/")


@dataclass(frozen=True, slots=True)
class Lying:
    """A file or an object: its size, and when it was changed, in POSIX seconds."""

    size: int
    changed_at: float


class Kept(Protocol):
    """The objects by their keys, and the files of uploads by theirs."""

    def objects(self) -> dict[str, Lying]: ...

    def staged(self) -> dict[str, Lying]: ...

    def read(self, key: str) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """In a data folder."""

    data: Path

    def objects(self) -> dict[str, Lying]:
        """All in the folders of the store."""
        return _found((self.data / "blobs").glob("*/*"))

    def staged(self) -> dict[str, Lying]:
        """All in the folder of uploads."""
        return _found((self.data / "uploads").iterdir())

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of one, in pieces."""
        with (self.data / "blobs" / key[:2] / key).open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece


@dataclass(frozen=True, slots=True)
class KeptObjects:
    """In a bucket, below a prefix that ends with a slash."""

    bucket: Bucket
    prefix: str = ""

    def objects(self) -> dict[str, Lying]:
        """All but what the store keeps of itself."""
        pages = self.bucket.client().get_paginator("list_objects_v2")
        return {
            found["Key"].rpartition("/")[2]: Lying(found["Size"], found["LastModified"].timestamp())
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=self.prefix)
            for found in page.get("Contents", [])
            if not found["Key"].removeprefix(self.prefix).startswith(_OF_THE_STORE)
        }

    def staged(self) -> dict[str, Lying]:
        """None: what is being uploaded are objects too."""
        return {}

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of one, in pieces."""
        name = f"{self.prefix}{key[:2]}/{key}"
        body = self.bucket.client().get_object(Bucket=self.bucket.name, Key=name)["Body"]
        yield from body.iter_chunks(_CHUNK)


def _found(paths: Iterator[Path]) -> dict[str, Lying]:
    found = {}
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:  # gone since it was listed
            continue
        found[path.name] = Lying(status.st_size, status.st_mtime)
    return found
