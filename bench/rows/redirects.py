"""GET of a blob that the client is sent to the object store for: what that costs the server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import psutil

from bench.content import Material
from bench.nodes import running_nodes
from bench.registry import push_blob
from bench.row import Bar, Place, Row, Run
from bench.scale import MIB
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import requests

_REPOSITORY = "bench/app"
_CONNECTIONS = 16
_WARM_UP_SECONDS = 1


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    with (
        Material(place.folder / "material", MIB) as material,
        running_nodes(place, {"DELIVERY__MODE": "redirect"}) as nodes,
    ):
        [server] = nodes.servers
        blob = material.fresh()
        path = f"/v2/{_REPOSITORY}/blobs/{blob.digest}"
        with Connection(server.port, nodes.authorization) as connection:
            push_blob(connection, _REPOSITORY, blob)
            connection.request("GET", path, expect=307)
        run = partial(_milliseconds, server, path, nodes.authorization)
        run(_WARM_UP_SECONDS)
        yield {"entrepot": partial(run, place.scale.seconds)}


def _milliseconds(server: Server, path: str, authorization: str, seconds: float) -> float:
    """Return the time that all processes of the server had a core, for each request."""
    before = _cpu(server.pid)
    url = f"http://localhost:{server.port}{path}"
    count = requests(url, authorization, connections=_CONNECTIONS, seconds=seconds)
    return (_cpu(server.pid) - before) * 1_000 / count


def _cpu(pid: int) -> float:
    parent = psutil.Process(pid)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return sum(each.user + each.system for each in times)


ROW = Row(
    name="redirect-cpu",
    title="Blob GET answered by a redirect to the object store, 16 connections: CPU of the server",
    unit="ms",
    bars=(Bar(1, at_least=False),),
    prepare=_prepare,
)
