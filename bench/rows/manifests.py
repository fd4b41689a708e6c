"""Manifest GET by tag: the request that every pull and every deployment begins with."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.content import image
from bench.registry import push_image
from bench.row import Bar, Place, Row, Run
from bench.scale import KIB
from bench.servers import Distribution, Entrepot, Nginx
from bench.servers.entrepot import bearer
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import requests_per_second

_REPOSITORY = "bench/app"
_PATH = f"/v2/{_REPOSITORY}/manifests/v1"
_CONNECTIONS = 16
_WARM_UP_SECONDS = 1

BARS = (Bar(10, "distribution"), Bar(0.4, "nginx", dream=0.6))


def _own(server: Server) -> str:
    return server.authorize([_REPOSITORY])


def _bearer(server: Server) -> str:
    return bearer(server, _REPOSITORY)


@contextmanager
def _prepare(authorize: Callable[[Server], str], place: Place) -> Iterator[Mapping[str, Run]]:
    small = image(layers=10, layer_size=KIB)
    nginx = Nginx(place.folder / "nginx")
    nginx.store(_PATH, small.manifest)
    with ExitStack() as stack:
        entrepot = Entrepot(place.folder / "entrepot", place.settings)
        ours = stack.enter_context(entrepot.running())
        theirs = stack.enter_context(Distribution(place.folder / "distribution").running())
        files = stack.enter_context(nginx.running())
        for server in (ours, theirs):
            with Connection(server.port, _own(server)) as connection:
                push_image(connection, _REPOSITORY, "v1", small)

        def rate(server: Server, authorize: Callable[[Server], str], seconds: float) -> float:
            return requests_per_second(
                f"http://localhost:{server.port}{_PATH}",
                authorize(server),
                connections=_CONNECTIONS,
                seconds=seconds,
            )

        contestants = {
            "entrepot": partial(rate, ours, authorize),
            "distribution": partial(rate, theirs, _own),
            "nginx": partial(rate, files, _own),
        }
        for run in contestants.values():
            run(_WARM_UP_SECONDS)
        yield {name: partial(run, place.scale.seconds) for name, run in contestants.items()}


BASIC = Row(
    name="manifest-basic",
    title="Manifest GET by tag, Basic, 16 connections",
    unit="req/s",
    bars=BARS,
    prepare=partial(_prepare, _own),
)
BEARER = Row(
    name="manifest-bearer",
    title="Manifest GET by tag, Bearer, 16 connections",
    unit="req/s",
    bars=BARS,
    prepare=partial(_prepare, _bearer),
)
