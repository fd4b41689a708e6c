"""Blob GET: the bytes of a layer, from the page cache to the socket."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.content import Blob, Material
from bench.registry import push_blob
from bench.row import Bar, Place, Row, Run
from bench.scale import MIB
from bench.servers import Distribution, Entrepot, Nginx
from bench.servers.server import Server
from bench.wire import Connection

_REPOSITORY = "bench/app"


@contextmanager
def _prepare(streams: int, place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        material = stack.enter_context(Material(place.folder / "material", place.scale.download))
        blob = material.fresh()
        path = f"/v2/{_REPOSITORY}/blobs/{blob.digest}"
        nginx = Nginx(place.folder / "nginx")
        nginx.store(path, _whole(material, blob, place.folder / "whole"))

        entrepot = Entrepot(place.folder / "entrepot", place.settings)
        ours = stack.enter_context(entrepot.running())
        theirs = stack.enter_context(Distribution(place.folder / "distribution").running())
        files = stack.enter_context(nginx.running())
        for server in (ours, theirs):
            with Connection(server.port, server.authorize([_REPOSITORY])) as connection:
                push_blob(connection, _REPOSITORY, blob)

        contestants = {}
        for server in (ours, theirs, files):
            run = partial(_rate, server, path, streams)
            run(1)
            contestants[server.name] = partial(run, max(1, place.scale.downloads // streams))
        yield contestants


def _whole(material: Material, blob: Blob, path: Path) -> Path:
    with path.open("wb") as file, material.path.open("rb") as start:
        while piece := start.read(MIB):
            file.write(piece)
        file.write(blob.tail)
    return path


def _rate(server: Server, path: str, streams: int, times: int) -> float:
    """Return MB/s over all streams, each of which downloads the blob some times."""

    def stream(connection: Connection) -> int:
        return sum(connection.discard(path) for _ in range(times))

    with ExitStack() as stack, ThreadPoolExecutor(streams) as pool:
        authorization = server.authorize([_REPOSITORY])
        connections = [
            stack.enter_context(Connection(server.port, authorization)) for _ in range(streams)
        ]
        started = time.perf_counter()
        received = sum(pool.map(stream, connections))
        return received / 1e6 / (time.perf_counter() - started)


ONE = Row(
    name="download-1",
    title="Blob GET 256 MB, 1 stream",
    unit="MB/s",
    bars=(Bar(1, "distribution"),),
    prepare=partial(_prepare, 1),
)
FOUR = Row(
    name="download-4",
    title="Blob GET 256 MB, 4 streams",
    unit="MB/s",
    bars=(Bar(1.2, "distribution"),),
    prepare=partial(_prepare, 4),
)
