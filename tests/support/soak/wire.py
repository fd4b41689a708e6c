"""One client's requests: each is counted, and each answer that must not be is kept."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

_EXAMPLES = 40


class Gone(Exception):
    """The registry says that it has it not."""


class Wrong(Exception):
    """The registry answered what it must not; it is counted, and the client gives up its plan."""


@dataclass(slots=True)
class Tally:
    """What all clients together did and met."""

    operations: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def fail(self, what: str, detail: str = "") -> None:
        """Count something that must not be."""
        self.failures[what] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{what}: {detail}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def missing(self) -> list[str]:
        """The digests that a refused manifest lacked; empty where it was refused otherwise."""
        error = json.loads(self.body)["errors"][0]
        is_so = error["code"] == "MANIFEST_BLOB_UNKNOWN"
        return list(error["detail"]["missing"]) if is_so else []


class Wire:
    """A client's connections."""

    def __init__(self, session: aiohttp.ClientSession, tally: Tally) -> None:
        self._session = session
        self.tally = tally

    async def ask(
        self, kind: str, method: str, path: str, *, expect: set[int], **options: Any
    ) -> Answer:
        """Send a request. Raises Gone for a 404 that is not expected, Wrong for all else."""
        try:
            async with self._session.request(method, path, **options) as answer:
                body = await answer.read()
                got = Answer(answer.status, answer.headers, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.tally.fail(f"{kind}: {type(error).__name__}", f"{method} {path}: {error}")
            raise Wrong from error
        self.tally.operations[kind] += 1
        if got.status in expect:
            return got
        if got.status == 404:
            raise Gone(f"{method} {path}: {body[:300]!r}")
        self.tally.fail(f"{kind}: {got.status}", f"{method} {path}: {body[:300]!r}")
        raise Wrong
