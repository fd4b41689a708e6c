"""Pushes of a 10-layer image of small layers, 16 at once: many requests, little in each."""

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING

from bench.content import image
from bench.registry import push_image
from bench.row import Bar, Place, Row, Run
from bench.scale import KIB
from bench.servers import Distribution, Entrepot
from bench.servers.process import BenchError
from bench.servers.server import Server
from bench.wire import Connection, UnexpectedAnswer

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

_LAYERS = 10
_LAYER_SIZE = 64 * KIB
_PROCESSES = 2
_THREADS = 8
_WAIT_SECONDS = 600


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        entrepot = Entrepot(place.folder / "entrepot", place.settings)
        ours = stack.enter_context(entrepot.running())
        theirs = stack.enter_context(Distribution(place.folder / "distribution").running())
        for server in (ours, theirs):
            _rate(server, 1)
        yield {server.name: partial(_rate, server, place.scale.images) for server in (ours, theirs)}


@dataclass(frozen=True, slots=True)
class _Work:
    """What one client process has to push, and to whom."""

    port: int
    authorization: str
    repositories: tuple[str, ...]
    images: int


def _rate(server: Server, images: int) -> float:
    """Return images/s of 16 clients, each of which pushes `images` to a repository of its own."""
    context = multiprocessing.get_context("spawn")
    ends: Queue[float | str] = context.Queue()
    start = context.Barrier(_PROCESSES + 1)
    names = [f"bench/app-{number}" for number in range(_PROCESSES * _THREADS)]
    authorization = server.authorize(names)
    pushers = []
    for number in range(_PROCESSES):
        work = _Work(server.port, authorization, tuple(names[number::_PROCESSES]), images)
        pusher = context.Process(target=_push_all, args=(work, start, ends), daemon=True)
        pusher.start()
        pushers.append(pusher)
    start.wait(_WAIT_SECONDS)
    started = time.monotonic()
    outcomes = [ends.get(timeout=_WAIT_SECONDS) for _ in pushers]
    for pusher in pushers:
        pusher.join()
    for outcome in outcomes:
        if isinstance(outcome, str):
            raise BenchError(outcome)
    ended = max(outcome for outcome in outcomes if isinstance(outcome, float))
    return len(names) * images / (ended - started)


def _push_all(work: _Work, start: Barrier, ends: "Queue[float | str]") -> None:
    """Be one client process: make and hash the content, wait for the start, push.

    Puts the time of the end, or what went wrong, into `ends`.
    """
    content = {
        name: [image(layers=_LAYERS, layer_size=_LAYER_SIZE) for _ in range(work.images)]
        for name in work.repositories
    }

    def push(repository: str) -> None:
        with Connection(work.port, work.authorization) as connection:
            for number, one in enumerate(content[repository]):
                push_image(connection, repository, f"v{number}", one)

    with ThreadPoolExecutor(len(content)) as pool:
        start.wait(_WAIT_SECONDS)
        try:
            list(pool.map(push, content))
        except (OSError, UnexpectedAnswer) as error:
            ends.put(f"push to port {work.port}: {error}")
        else:
            ends.put(time.monotonic())


ROW = Row(
    name="push",
    title="Push of 10 layers of 64 KiB, 16 at once",
    unit="images/s",
    bars=(Bar(2, "distribution"),),
    prepare=_prepare,
)
