"""What database and store say of a registry that collects, read as a stranger would."""

import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

from tests.support.kept import Kept

_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What collection has deleted until now."""

    manifests: int
    links: int
    objects: int
    size: int


@dataclass(slots=True)
class Ledger:
    """The two places where a registry keeps things."""

    database_url: str
    data: Path
    kept: Kept
    most_bytes: int = 0
    objects: int = 0  # that were collected when somebody looked last
    waiting: list[Any] = field(default_factory=list)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database answers."""
        if self.database_url.startswith("sqlite:"):
            path = Path(self.database_url.removeprefix("sqlite:///"))
            uri = f"{path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=60)) as sqlite:
                return sqlite.execute(sql).fetchall()
        with psycopg.connect(self.database_url) as postgres:
            return postgres.execute(sql).fetchall()

    def collected(self) -> Collected:
        """All that went."""
        columns = ("manifests", "links", "objects", "bytes")
        sums = ", ".join(f"COALESCE(SUM({column}), 0)" for column in columns)
        found = Collected(*map(int, self.rows(f"SELECT {sums} FROM collection_days")[0]))
        self.objects = found.objects
        return found

    def behind(self) -> str:
        """How far the collector is behind those who delete."""
        now = int(time.time() * 1_000_000)
        rows = self.rows(
            f"""
            SELECT 1, due_at FROM review_queue WHERE due_at < {now}
             UNION ALL
            SELECT 0, due_at FROM tombstones WHERE due_at < {now}
            """
        )
        reviews = sum(row[0] for row in rows)
        oldest = (now - min((int(row[1]) for row in rows), default=now)) // 1_000_000
        return f"{reviews} reviews and {len(rows) - reviews} objects, {oldest} s at most"

    def collections(self) -> int:
        """How many runs of collection deleted something."""
        return (self.data / "server.log").read_text().count("collection.done")

    def stored_bytes(self) -> int:
        """The bytes of all objects."""
        size = sum(lying.size for lying in self.kept.objects().values())
        self.most_bytes = max(self.most_bytes, size)
        return size

    def known_bytes(self) -> int:
        """The bytes of all blobs that the database knows."""
        return int(self.rows("SELECT COALESCE(SUM(size), 0) FROM blobs")[0][0])

    def live_manifests(self) -> list[list[tuple[str, str]]]:
        """Paths and digests of all that can be pulled, by depth; what lists others comes first."""
        rows = self.rows(
            """
            SELECT m.depth, r.path, m.digest
              FROM manifests AS m
              JOIN repositories AS r ON r.id = m.repository_id
             WHERE m.deleted_at IS NULL
               AND r.deleted_at IS NULL
             ORDER BY m.depth DESC, m.digest
            """
        )
        by_depth = groupby(rows, key=lambda row: int(row[0]))
        return [[(str(row[1]), str(row[2])) for row in some] for _, some in by_depth]

    def hurry(self) -> None:
        """Have collection look again at what it put off for an hour: something held it then."""
        sql = "UPDATE review_queue SET due_at = 1"
        if self.database_url.startswith("sqlite:"):
            path = self.database_url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(path, timeout=60)) as sqlite, sqlite:
                sqlite.execute(sql)
            return
        with psycopg.connect(self.database_url) as postgres:
            postgres.execute(sql)

    def has_caught_up(self) -> bool:
        """Whether nothing waits to be collected, or joined, but for what was put off for an hour."""
        soon = int((time.time() + _SECONDS) * 1_000_000)
        self.waiting = self.rows(
            f"""
            SELECT kind, digest, reason, due_at
              FROM review_queue
             WHERE due_at < {soon}
             UNION ALL
            SELECT 'object', digest, error, due_at
              FROM tombstones
             UNION ALL
            SELECT 'segments', digest, NULL, 0
              FROM blobs
             WHERE storage_key LIKE '%.segments'
            """
        )
        return not self.waiting

    def wait_for_collection(self) -> None:
        """Wait as long as the collector gets on; a failure tells what waits."""
        least, deadline = sys.maxsize, 0.0
        while not self.has_caught_up():
            if len(self.waiting) < least:
                least, deadline = len(self.waiting), time.monotonic() + _SECONDS
            assert time.monotonic() < deadline, self.waiting[:10]
            time.sleep(0.2)  # there is no other way to tell
