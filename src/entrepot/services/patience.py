"""How long a client waits for an upstream's answer, and what it hears instead."""

import asyncio
from weakref import WeakSet

from entrepot.model.access import Repository
from entrepot.model.clock import SECOND, Clock, to_rfc3339
from entrepot.model.errors import (
    EntrepotError,
    StorageFailed,
    StorageFull,
    Unavailable,
    UpstreamError,
    UpstreamForbidden,
    UpstreamRefused,
)
from entrepot.model.upstreams import DEFAULT_FRESHNESS, SYNCED
from entrepot.services.checks import source_of
from entrepot.services.lookups import Key, Lookups, Work
from entrepot.services.recent import Recent
from entrepot.services.remotes import Remotes

# Who could have an older answer waits so long for a newer one; and when the last question failed,
# or somebody has waited for this one already.
_SECONDS = 2.0
_SECONDS_AFTER_FAILURE = 0.25

# An answer that could not be had, or not be kept: an older one is better than none.
_FAILURES = (UpstreamError, StorageFull, StorageFailed, Unavailable)
# These do not pass by themselves, so the upstream is not asked again at once.
_REFUSALS = (UpstreamForbidden, UpstreamRefused)


class Patience:
    """Waits for what `Lookups` finds out."""

    def __init__(self, lookups: Lookups, remotes: Remotes, clock: Clock) -> None:
        self._lookups = lookups
        self._remotes = remotes
        self._clock = clock
        self._failed: Recent[Key, EntrepotError] = Recent(clock)
        self._late: WeakSet[asyncio.Task[None]] = WeakSet()  # somebody waited in vain for these

    def is_fresh(self, repository: Repository, checked_at: int | None) -> bool:
        """Whether an answer of then needs no question yet."""
        freshness = source_of(repository).freshness
        if freshness == SYNCED:
            freshness = DEFAULT_FRESHNESS  # of what no sync brings
        return self.is_within(checked_at, freshness * SECOND)

    def is_within(self, checked_at: int | None, life: int) -> bool:
        """Whether then is less than `life` ago; never in the future, should a clock be set back."""
        return checked_at is not None and 0 <= self._clock.now() - checked_at < life

    async def wait(
        self,
        repository: Repository,
        reference: str,
        seen_at: int | None,
        work: Work,
        *,
        is_forced: bool = False,
    ) -> None:
        """Ask, or join who is asking, to the end. Raises UpstreamError.

        A refusal of just now counts again, unless `is_forced`.
        """
        key = (repository.id, reference)
        failed = self._failed.get(key)
        if isinstance(failed, _REFUSALS) and not is_forced:
            raise _again(failed)
        task = self._start(repository, key, seen_at, work)
        await asyncio.wait({task})
        self._raise(key, task)

    async def wait_a_little(
        self, repository: Repository, reference: str, seen_at: int | None, work: Work
    ) -> str:
        """Ask, for somebody who has the answer of `seen_at`; why that one has to do, if it has."""
        key = (repository.id, reference)
        upstream_id = source_of(repository).upstream_id
        failed: EntrepotError | None = self._failed.get(key)
        if failed is None:
            task = self._start(repository, key, seen_at, work)
            is_hopeless = task in self._late or self._remotes.has_failed(upstream_id)
            seconds = _SECONDS_AFTER_FAILURE if is_hopeless else _SECONDS
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                self._late.add(task)
                failed = Unavailable("the upstream registry has not answered yet")
            else:
                try:
                    self._raise(key, task)
                except _FAILURES as error:
                    failed = error
        if failed is None:
            return ""
        self._remotes.note_stale(upstream_id)
        then = f"at {to_rfc3339(seen_at)}" if seen_at is not None else "long ago"
        return f"{failed.message}; this was its answer {then}"

    def _start(
        self, repository: Repository, key: Key, seen_at: int | None, work: Work
    ) -> asyncio.Task[None]:
        upstream_id = source_of(repository).upstream_id
        task, is_running = self._lookups.once(
            *key, seen_at, work, lambda: self._remotes.look_again(upstream_id)
        )
        if is_running:
            self._remotes.note_coalesced(upstream_id)
        return task

    def _raise(self, key: Key, task: asyncio.Task[None]) -> None:
        """Whatever ended the task, anew for each who waited."""
        if task.cancelled():
            raise Unavailable("the server is stopping; try again")
        error = task.exception()
        if isinstance(error, EntrepotError):
            self._failed.put(key, _again(error))
            raise _again(error) from error
        if error is not None:
            raise error


def _again(error: EntrepotError) -> EntrepotError:
    """The same error for another caller; one that was raised keeps alive all that it passed."""
    return type(error)(error.message, **error.values)
