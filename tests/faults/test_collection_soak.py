"""Collection every second below ten clients that push, pull, move, tag and delete without end.

Whatever was acknowledged can be pulled whole until its client removes it, or retention may; nothing
that a pusher was told to be there is refused within the grace. In the end the disk, or the bucket,
holds what the database says, and nothing once all is deleted.
"""

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from tests.support.eventually import eventually
from tests.support.invariants import check_invariants
from tests.support.kept import Kept, KeptFiles, KeptObjects
from tests.support.server import running_server
from tests.support.soak.caller import Caller
from tests.support.soak.ledger import Collected, Ledger
from tests.support.soak.mirrored import Evicting, Mirrored, make_mirrored
from tests.support.soak.promises import Promise, Promises
from tests.support.soak.protocol import Protocol
from tests.support.soak.wire import Gone, Tally, Wire, Wrong
from tests.support.upstreams.distribution import running_distribution

T = TypeVar("T")

# Run, not imported: it changes a setting's limits for whoever reads it.
_SHORT_GRACE = Path(__file__).parents[1] / "support/soak/short_grace.py"
_CLIENTS = 10
_GRACE = 4  # seconds
_RESTORE = 2  # seconds
_NEWEST = 30  # tags of each repository that retention keeps
_NAMES = [f"soak/app{number}" for number in range(4)]
_SNAPSHOTS = "soak/snapshots"
_SAMPLE_SECONDS = 2.0
_MOST_SECONDS = 3_600.0
_MOST_FAILURES = 50
_NOTHING = Collected(0, 0, 0, 0)
_ENVIRONMENT = {
    "ENTREPOT_ANONYMOUS": "push",
    "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
    "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.1/32",
    "ENTREPOT_UPLOADS__PROTECT_SECONDS": str(_GRACE),
    "ENTREPOT_RETENTION__TAGS": str(_NEWEST),
    "ENTREPOT_RETENTION__EVERY_SECONDS": "1",
    "ENTREPOT_RETENTION__RESTORE_SECONDS": str(_RESTORE),
    "ENTREPOT_COLLECTION__EVERY_SECONDS": "1",
    "ENTREPOT_COLLECTION__DELAY_SECONDS": "1",
}
# A pull opens its object after it has read the row; here that takes a request to the store.
_PATIENCE = {"ENTREPOT_COLLECTION__DELAY_SECONDS": "20"}


@dataclass(slots=True)
class Soak:
    """A run, and what it came to."""

    ledger: Ledger
    promises: Promises
    mirrored: Mirrored
    token: str
    tally: Tally = field(default_factory=Tally)
    late: int = 0
    seconds: float = 0.0
    meanwhile: Collected = _NOTHING
    collections: int = 0
    evicted: int = 0
    behind: str = ""
    promised: int = 0
    kept_bytes: int = 0

    @property
    def line(self) -> str:
        """The report."""
        went = self.meanwhile
        steps = self.promises.steps
        return (
            f"{self.tally.operations.total()} operations in {self.seconds:.0f} s"
            f" ({steps['pushed']} pushes of images, {steps['remove tag']} tags and"
            f" {steps['remove manifest']} manifests deleted,"
            f" {self.tally.operations['tag.restore']} restorations, {steps['aged']} tags that"
            f" retention may remove, {self.late} begun anew after the grace);"
            f" {self.collections} runs of collection removed {went.links} links, {went.manifests}"
            f" manifests, {went.objects} objects, {went.size} bytes meanwhile, and are"
            f" behind by {self.behind};"
            f" {self.evicted} blobs evicted;"
            f" {self.promised} promises kept at the end; disk: {self.ledger.most_bytes} bytes at"
            f" most, {self.kept_bytes} in the end as the database says, 0 once all is deleted;"
            f" failures: {self.tally.failures.total()} {dict(self.tally.failures)}"
        )

    async def run(self, url: str, *, seconds: float, operations: int, objects: int) -> None:
        """Have all clients work until so much is done and so many objects were collected."""
        began = time.monotonic()

        def is_over() -> bool:
            took = time.monotonic() - began
            is_enough = took > seconds and self.tally.operations.total() >= operations
            return (
                (is_enough and self.ledger.objects >= objects)
                or took > _MOST_SECONDS
                or self.tally.failures.total() > _MOST_FAILURES
            )

        async with session(url) as http, asyncio.TaskGroup() as group:
            callers = [self._caller(number, http) for number in range(_CLIENTS)]
            for caller in callers:
                group.create_task(caller.run(is_over))
        self.seconds = time.monotonic() - began
        self.late = sum(caller.protocol.late for caller in callers)
        self.behind = self.ledger.behind()
        self.meanwhile = self.ledger.collected()
        self.collections = self.ledger.collections()

    async def verify(self, url: str) -> None:
        """Pull all that is promised."""
        self.promised = 0

        async def pull(protocol: Protocol, promise: Promise) -> None:
            with suppress(Wrong):  # it is counted
                await protocol.verify(promise)
                self.promised += promise.holds

        await self._each(url, self.promises.holding(), pull)

    async def remove_all(self, url: str) -> None:
        """Delete every manifest that is still there."""

        async def remove(protocol: Protocol, where: tuple[str, str]) -> None:
            with suppress(Gone):  # what listed it, or what it hung below, took it along
                await protocol.remove(*where)

        for some in self.ledger.live_manifests():
            await self._each(url, some, remove)

    async def _each(
        self, url: str, things: Sequence[T], work: Callable[[Protocol, T], Awaitable[None]]
    ) -> None:
        """Do this with each, as many at once as there are clients."""
        left = iter(things)

        async def go_on(protocol: Protocol) -> None:
            for thing in left:
                await work(protocol, thing)

        async with session(url) as http, asyncio.TaskGroup() as group:
            for number in range(_CLIENTS):
                group.create_task(go_on(self._caller(number, http).protocol))

    def _caller(self, number: int, http: aiohttp.ClientSession) -> Caller:
        return Caller(
            number,
            Wire(http, self.tally),
            self.promises,
            grace=_GRACE,
            names=_NAMES,
            snapshots=_SNAPSHOTS,
            cached=self.mirrored.images,
            restore=_RESTORE,
            token=self.token,
        )


def session(url: str) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=60)
    return aiohttp.ClientSession(
        url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), auto_decompress=False
    )


def sampling(ledger: Ledger, is_over: threading.Event) -> threading.Thread:
    """Look at the disk all the time."""

    def look() -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            ledger.stored_bytes()
            ledger.collected()

    thread = threading.Thread(target=look)
    thread.start()
    return thread


def _settings_of(kept: Kept) -> dict[str, str]:
    """Those that put the bytes there."""
    if isinstance(kept, KeptObjects):
        return kept.bucket.settings("registry") | _PATIENCE
    return {}


def soak(
    database_url: str,
    data: Path,
    kept: Kept,
    *,
    seconds: float,
    operations: int,
    objects: int,
) -> Soak:
    """The run, its end, and what must hold then."""
    ledger = Ledger(database_url, data, kept)
    with (
        closing(Promises(data.parent / "journal", keep=_NEWEST)) as promises,
        running_distribution(data.parent / "upstream") as upstream,
        running_server(
            data,
            database_url=database_url,
            workers=2,
            environment=_ENVIRONMENT | _settings_of(kept),
            command=(sys.executable, str(_SHORT_GRACE)),
        ) as server,
    ):
        run = Soak(ledger, promises, make_mirrored(server, upstream), server.token)
        is_over = threading.Event()
        sampler = sampling(ledger, is_over)
        with closing(Evicting(database_url)) as evicting:
            try:
                asyncio.run(
                    run.run(server.url, seconds=seconds, operations=operations, objects=objects)
                )
            finally:
                is_over.set()
                sampler.join()
        run.evicted = evicting.evicted
        asyncio.run(run.verify(server.url))
        assert run.tally.failures == Counter(), "\n".join([run.line, *run.tally.examples])
        ledger.wait_for_collection()
        # What is joined is there twice for a moment.
        eventually(lambda: ledger.stored_bytes() == ledger.known_bytes(), within=120)
        run.kept_bytes = ledger.stored_bytes()
        check_invariants(database_url, kept)
        asyncio.run(run.verify(server.url))
        run.mirrored.delete(server)
        asyncio.run(run.remove_all(server.url))
        ledger.wait_for_collection()
        ledger.hurry()
        ledger.wait_for_collection()
        assert run.tally.failures == Counter(), "\n".join(run.tally.examples)
        eventually(lambda: ledger.stored_bytes() == ledger.known_bytes() == 0, within=120)
        check_invariants(database_url, kept)
    return run


@pytest.fixture
def kept(request, data):
    """Where the bytes are: in the data folder, or in a bucket."""
    if request.param == "folder":
        return KeptFiles(data)
    return KeptObjects(request.getfixturevalue("bucket"), "registry/")


_LONG = [pytest.mark.soak, pytest.mark.timeout(0)]


@pytest.mark.parametrize(
    ("database_kind", "kept", "seconds", "operations", "objects"),
    [
        pytest.param("sqlite", "folder", 60, 5_000, 2_000, marks=pytest.mark.slow, id="sqlite"),
        # What PostgreSQL adds is seen with a bucket too.
        pytest.param("postgres", "bucket", 20, 1_000, 100, marks=pytest.mark.slow, id="bucket"),
        pytest.param("sqlite", "folder", 0, 100_000, 10_000, marks=_LONG, id="sqlite for long"),
        pytest.param("postgres", "folder", 0, 100_000, 10_000, marks=_LONG, id="postgres for long"),
        pytest.param("postgres", "bucket", 0, 100_000, 5_000, marks=_LONG, id="bucket for long"),
    ],
    indirect=["kept"],
)
def test_collection_takes_nothing_that_somebody_needs(
    database_kind, database_url, data, kept, seconds, operations, objects
):
    run = soak(database_url, data, kept, seconds=seconds, operations=operations, objects=objects)

    print(f"\nsoak on {database_kind}, {type(kept).__name__}: {run.line}")
    assert run.tally.operations.total() >= operations, run.line
    assert run.meanwhile.objects >= objects, run.line
