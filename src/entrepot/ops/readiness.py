"""Whether database and store answer, found out cheaply and within a bound of time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from entrepot.blobs.space import Space
from entrepot.blobs.store import BlobStore
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import EntrepotError, ObjectMissing, Unavailable

ANSWER_SECONDS = 3.0
"""How long a part may take; load balancers seldom wait longer than five."""
GIVE_UP_SECONDS = 30.0
"""When a question without an answer is put anew: by then on another connection."""

Ask = Callable[[], Awaitable[str]]
"""Asks a part: what of it is degraded, or nothing. Raises EntrepotError if it does not answer."""

_REMEDY = "`entrepot admin doctor` on this node says more"


class Readiness:
    """Asks each part once a second at most, however many want to know."""

    def __init__(
        self,
        clock: Clock,
        parts: Mapping[str, Ask],
        *,
        seconds: float = ANSWER_SECONDS,
        give_up: float = GIVE_UP_SECONDS,
    ) -> None:
        self._parts = [_Part(clock, name, ask, seconds, give_up) for name, ask in parts.items()]

    async def look(self) -> dict[str, str]:
        """What is degraded. Raises Unavailable: which parts do not answer, in a sentence."""
        found = await asyncio.gather(*(part.look() for part in self._parts))
        faults = [fault for _, fault in found if fault]
        if faults:
            raise Unavailable(f"{' and '.join(faults)}; {_REMEDY}")
        degraded = ", ".join(state for state, _ in found if state)
        return {"degraded": degraded} if degraded else {}


class AskStore:
    """Asks a store, and for the space of this node's data folder.

    In a thread of its own: a disk or store that hangs holds up that one alone.
    """

    def __init__(self, store: BlobStore, data: Space) -> None:
        self._store = store
        self._data = data
        self._thread = ThreadPoolExecutor(1, "readiness")

    async def __call__(self) -> str:
        """What is degraded. Raises StorageFailed, Unavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask)

    def _ask(self) -> str:
        with suppress(ObjectMissing):  # to ask for what is not there moves no bytes
            self._store.require(self._store.new_key(), 0)
        return "disk" if self._store.is_low() or self._data.is_low() else ""

    def close(self) -> None:
        """Wait for nothing: the store may hang."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class _Part:
    """One part. One question at a time: a part that hangs keeps few connections.

    `look` answers what is degraded, and what is wrong.
    """

    def __init__(self, clock: Clock, name: str, ask: Ask, seconds: float, give_up: float) -> None:
        self._clock = clock
        self._name = name
        self._ask = ask
        self._seconds = seconds
        self._give_up = give_up
        self._task: asyncio.Task[tuple[str, str]] | None = None
        self._asked_at = 0
        self._deadline = 0.0

    async def look(self) -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        task = self._task
        if task is None or (task.done() and self._is_old()):
            self._asked_at = self._clock.now()
            self._deadline = loop.time() + self._seconds
            task = self._task = asyncio.create_task(self._answer())
        await asyncio.wait({task}, timeout=max(0.0, self._deadline - loop.time()))
        if not task.done():
            return "", self._silent()
        return task.result()

    async def _answer(self) -> tuple[str, str]:
        try:
            async with asyncio.timeout(self._give_up):
                return await self._ask(), ""
        except TimeoutError:
            return "", self._silent()
        except EntrepotError as error:
            why = error.values.get("store") or error.message  # what an object store said
            return "", f"the {self._name} does not answer ({why})"

    def _silent(self) -> str:
        return f"the {self._name} has not answered within {self._seconds:g} seconds"

    def _is_old(self) -> bool:
        """Whether the last question is a second ago, or the clock was set back."""
        return not 0 <= self._clock.now() - self._asked_at < SECOND
