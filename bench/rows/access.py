"""What it costs to know who asks: manifest GETs against open access, and tokens per second."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.content import image
from bench.registry import push_image
from bench.row import Bar, Place, Row, Run
from bench.scale import KIB
from bench.servers import Entrepot
from bench.servers.entrepot import bearer
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import requests_per_second

_REPOSITORY = "bench/app"
_MANIFEST = f"/v2/{_REPOSITORY}/manifests/v1"
_TOKEN = f"/v2/token?scope=repository:{_REPOSITORY}:pull"
_CONNECTIONS = 16
_WARM_UP_SECONDS = 1


def _basic(server: Server) -> str:
    return server.authorize([_REPOSITORY])


def _bearer(server: Server) -> str:
    return bearer(server, _REPOSITORY)


def _rate(server: Server, path: str, authorization: str, seconds: float) -> float:
    return requests_per_second(
        f"http://localhost:{server.port}{path}",
        authorization,
        connections=_CONNECTIONS,
        seconds=seconds,
    )


@contextmanager
def _against_open(authorize: Callable[[Server], str], place: Place) -> Iterator[Mapping[str, Run]]:
    """The same server code twice: one asks everybody who they are, one asks nobody."""
    small = image(layers=10, layer_size=KIB)
    with ExitStack() as stack:
        closed = Entrepot(place.folder / "closed", place.settings)
        opened = Entrepot(place.folder / "open", {**place.settings, "ANONYMOUS": "push"})
        runs: dict[str, Callable[[float], float]] = {}
        for name, contestant in (("entrepot", closed), ("open", opened)):
            server = stack.enter_context(contestant.running())
            with Connection(server.port, _basic(server)) as connection:
                push_image(connection, _REPOSITORY, "v1", small)
            asked = authorize(server) if name == "entrepot" else ""
            runs[name] = partial(_rate, server, _MANIFEST, asked)
        for run in runs.values():
            run(_WARM_UP_SECONDS)
        yield {name: partial(run, place.scale.seconds) for name, run in runs.items()}


@contextmanager
def _minting(place: Place) -> Iterator[Mapping[str, Run]]:
    """One worker, whose Python runs on one core at a time."""
    entrepot = Entrepot(place.folder / "entrepot", {**place.settings, "WORKERS": "1"})
    with entrepot.running() as server:
        run = partial(_rate, server, _TOKEN, _basic(server))
        run(_WARM_UP_SECONDS)
        yield {"entrepot": partial(run, place.scale.seconds)}


BASIC = Row(
    name="access-basic",
    title="Manifest GET by tag, Basic against open access, 16 connections",
    unit="req/s",
    bars=(Bar(0.85, "open"),),
    prepare=partial(_against_open, _basic),
)
BEARER = Row(
    name="access-bearer",
    title="Manifest GET by tag, Bearer against open access, 16 connections",
    unit="req/s",
    bars=(Bar(0.85, "open"),),
    prepare=partial(_against_open, _bearer),
)
MINTING = Row(
    name="token-minting",
    title="Bearer tokens for a Basic credential, one worker, 16 connections",
    unit="req/s",
    bars=(Bar(1000),),
    prepare=_minting,
)
