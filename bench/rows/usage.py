"""Usage of an organisation with a million manifests, all accounted for in the last year."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from bench.row import OURS, Bar, Place, Row, Run
from bench.seed import seeded
from bench.servers.process import BenchError
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import requests_per_second

_TARGET = "/api/v1/organisations/main/usage"
_WARM_UP_SECONDS = 1


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    few = replace(place, scale=replace(place.scale, tags=place.scale.few_tags))
    with ExitStack() as stack:
        runs: dict[str, Run] = {}
        for name, size in ((OURS, place), ("at 1,000", few)):
            server = stack.enter_context(seeded(size).running())
            _check(server, size.scale.tags)
            _milliseconds(server, _WARM_UP_SECONDS)
            runs[name] = partial(_milliseconds, server, place.scale.seconds)
        yield runs


def _check(server: Server, manifests: int) -> None:
    with Connection(server.port, _bearer(server)) as connection:
        answer = json.loads(connection.request("GET", _TARGET).body)
    if answer["usage"]["bytes"] < 100 * manifests:
        raise BenchError(f"that is not the usage of {manifests} manifests: {answer['usage']}")


def _milliseconds(server: Server, seconds: float) -> float:
    """Return the mean time of an answer, one request after the other."""
    rate = requests_per_second(
        f"http://localhost:{server.port}{_TARGET}",
        _bearer(server),
        connections=1,
        seconds=seconds,
    )
    return 1000 / rate


def _bearer(server: Server) -> str:
    """Return the administrator's token as the management API takes it."""
    _, _, pair = server.authorize([]).partition(" ")
    _, _, token = base64.b64decode(pair).decode().partition(":")
    return f"Bearer {token}"


ROW = Row(
    name="usage",
    title="Usage of an organisation with 1,000,000 manifests",
    unit="ms",
    bars=(Bar(1.5, "at 1,000", at_least=False),),
    prepare=_prepare,
)
