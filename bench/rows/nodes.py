"""Several nodes on one database: two together against one alone, with as many processes."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from bench.content import image
from bench.nodes import running_nodes
from bench.registry import push_image
from bench.row import Bar, Place, Row, Run
from bench.scale import KIB
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import requests_per_second

_REPOSITORY = "bench/app"
_PATH = f"/v2/{_REPOSITORY}/manifests/v1"
_CONNECTIONS = 16
_WARM_UP_SECONDS = 1


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    with running_nodes(place, {"WORKERS": "2"}, {"WORKERS": "1"}, {"WORKERS": "1"}) as nodes:
        alone, *two = nodes.servers
        with Connection(alone.port, nodes.authorization) as connection:
            push_image(connection, _REPOSITORY, "v1", image(layers=10, layer_size=KIB))

        def rate(servers: Sequence[Server], seconds: float) -> float:
            def one(server: Server) -> float:
                return requests_per_second(
                    f"http://localhost:{server.port}{_PATH}",
                    nodes.authorization,
                    connections=_CONNECTIONS // len(servers),
                    seconds=seconds,
                )

            with ThreadPoolExecutor(len(servers)) as pool:
                return sum(pool.map(one, servers))

        # Both are asked by two clients of 8 connections: the same load.
        contestants = {"entrepot": two, "one node": [alone, alone]}
        for servers in contestants.values():
            rate(servers, _WARM_UP_SECONDS)
        yield {
            name: partial(rate, servers, place.scale.seconds)
            for name, servers in contestants.items()
        }


ROW = Row(
    name="nodes",
    title="Manifest GET by tag, 2 x 8 connections to 2 nodes of 1 worker; to one node of 2",
    unit="req/s",
    bars=(Bar(0.9, "one node"),),
    prepare=_prepare,
)
