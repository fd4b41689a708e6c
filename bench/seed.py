"""A data folder with a million manifests and tags, written straight into the database.

Pushing them would take hours and measure something else. A first image is pushed through the
server into each repository; the other rows are copies of what that push wrote, each with its own
tag and its own manifest, whose digest is true.
"""

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.content import image
from bench.registry import push_image
from bench.row import Place
from bench.servers import Entrepot
from bench.wire import Connection
from entrepot.model.ids import new_id

FEW = "bench/few"
MANY = "bench/many"

_FIRST_TAG = "seed"
_DAY = 24 * 60 * 60 * 1_000_000  # in µs
_DAYS = 365
_BATCH = 20_000
_SCHEMA = Path(__file__).parents[1] / "src/entrepot/db/revisions/versions"

_Cells = dict[str, Any]  # whatever the columns hold


def tag(number: int) -> str:
    """Return the name of a seeded tag; their order is that of their numbers."""
    return f"v{number:07}"


def seeded(place: Place) -> Entrepot:
    """Return a server on a seeded folder: one that an earlier run left, if it still fits."""
    folder = place.folder.parent / f"seeded-{place.scale.tags}"
    mark = folder / "fingerprint"
    fingerprint = _fingerprint()
    if not mark.exists() or mark.read_text() != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        _seed(folder, place)
        mark.write_text(fingerprint)
    return _registry(folder, place)


def _registry(folder: Path, place: Place) -> Entrepot:
    """Return a server that leaves all of it for the next run."""
    return Entrepot(folder, {"RETENTION__NEVER": "true", **place.settings})


def _fingerprint() -> str:
    files = [Path(__file__), *sorted(_SCHEMA.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _seed(folder: Path, place: Place) -> None:
    counts = {FEW: place.scale.few_tags, MANY: place.scale.tags}
    entrepot = _registry(folder, place)
    with entrepot.running() as server:
        first = image(layers=1, layer_size=1024)
        for name in counts:
            with Connection(server.port, server.authorize([name])) as connection:
                push_image(connection, name, _FIRST_TAG, first)
    with closing(sqlite3.connect(folder / "data" / "entrepot.db")) as database:
        # Nothing acknowledged is at stake: if this is cut short, the folder is made again.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -1000000")
        for name, count in counts.items():
            _copy(database, name, count, place)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    place.say("folding what usage is made of")
    entrepot.alone("fold")


def _copy(database: sqlite3.Connection, name: str, count: int, place: Place) -> None:
    """Write `count` manifests, each with a tag, its history, and links to the first one's blobs.

    All are of now, but accounted for as if they had come in the course of a year.
    """
    (key, owner) = database.execute(
        "SELECT id, organisation_id FROM repositories WHERE path = ?", [name]
    ).fetchone()
    (manifest,) = _rows_of(database, "manifests", key)
    (first_tag,) = _rows_of(database, "tags", key)
    (history,) = _rows_of(database, "tag_history", key)
    links = _rows_of(database, "manifest_blobs", key)
    content = json.loads(manifest["body"])
    for start in range(0, count, _BATCH):
        place.say(f"seeding {name}: {start:,} of {count:,}")
        numbers = range(start, min(start + _BATCH, count))
        bodies = [_body(content, number) for number in numbers]
        digests = [f"sha256:{hashlib.sha256(body).hexdigest()}" for body in bodies]
        names: list[_Cells] = [
            {"name": tag(n), "digest": d} for n, d in zip(numbers, digests, strict=True)
        ]
        with database:
            for number, digest, body in zip(numbers, digests, bodies, strict=True):
                cells = manifest | {"digest": digest, "size": len(body), "body": body}
                _insert(database, "manifests", cells)
                for link in links:
                    _insert(database, "manifest_blobs", link | {"manifest": digest})
                at = manifest["pushed_at"] - number % _DAYS * _DAY
                for line in (key, None):  # the repository, and its organisation
                    delta = {"organisation_id": owner, "repository_id": line, "at": at}
                    _insert(database, "byte_deltas", delta | {"id": new_id(), "bytes": len(body)})
            for changes in names:
                _insert(database, "tags", first_tag | changes)
                _insert(database, "tag_history", history | changes)


def _body(content: dict[str, object], number: int) -> bytes:
    return json.dumps(content | {"annotations": {"bench.number": str(number)}}).encode()


def _rows_of(database: sqlite3.Connection, table: str, repository_id: int) -> list[_Cells]:
    cursor = database.execute(f"SELECT * FROM {table} WHERE repository_id = ?", [repository_id])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _insert(database: sqlite3.Connection, table: str, cells: _Cells) -> None:
    names = ", ".join(cells)
    values = ", ".join(f":{name}" for name in cells)
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", cells)
