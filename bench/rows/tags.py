"""A page of 100 tags from the middle of a long list, against the same page of a short one."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.row import Bar, Place, Row, Run
from bench.seed import FEW, MANY, seeded, tag
from bench.servers.process import BenchError
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import requests_per_second

_PAGE = 100
_POSITIONS = 50
_WARM_UP_SECONDS = 1

# Pages all over the middle of the list, so that no cache of one page decides.
_SCRIPT = """\
local targets = {{ {targets} }}
local turn = 0
request = function()
    turn = turn % #targets + 1
    return wrk.format("GET", targets[turn])
end
"""


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    entrepot = seeded(place)
    with entrepot.running() as server:
        few = _targets(FEW, place.scale.few_tags)
        many = _targets(MANY, place.scale.tags)
        for target in (few[0], few[-1], many[0], many[-1]):
            _check(server, target)
        few_script = _script(place.folder / "few.lua", few)
        many_script = _script(place.folder / "many.lua", many)
        for script in (few_script, many_script):
            _milliseconds(server, script, _WARM_UP_SECONDS)
        yield {
            "entrepot": partial(_milliseconds, server, many_script, place.scale.seconds),
            "at 1,000": partial(_milliseconds, server, few_script, place.scale.seconds),
        }


def _targets(repository: str, count: int) -> list[str]:
    first, end = count // 10, count - count // 10 - _PAGE
    numbers = range(first, end, (end - first) // _POSITIONS)
    return [f"/v2/{repository}/tags/list?n={_PAGE}&last={tag(number)}" for number in numbers]


def _check(server: Server, target: str) -> None:
    with Connection(server.port, server.authorize([FEW, MANY])) as connection:
        names = json.loads(connection.request("GET", target).body)["tags"]
    first = target.rpartition("=")[2]
    if len(names) != _PAGE or min(names) <= first:
        raise BenchError(f"{target} is no page of {_PAGE} tags: {names}")


def _script(path: Path, targets: list[str]) -> Path:
    path.write_text(_SCRIPT.format(targets=", ".join(f'"{target}"' for target in targets)))
    return path


def _milliseconds(server: Server, script: Path, seconds: float) -> float:
    """Return the mean time of a page, one request after the other."""
    rate = requests_per_second(
        f"http://localhost:{server.port}/",
        server.authorize([FEW, MANY]),
        connections=1,
        seconds=seconds,
        script=script,
    )
    return 1000 / rate


ROW = Row(
    name="tags",
    title="Tag page of 100 at 1,000,000 tags",
    unit="ms",
    bars=(Bar(1.5, "at 1,000", at_least=False),),
    prepare=_prepare,
)
