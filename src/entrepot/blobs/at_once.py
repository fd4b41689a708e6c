"""Asking a store for many things: some at once, because each waits for the network."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

_THREADS = 8


async def for_each(items: Sequence[T], work: Callable[[T], object]) -> None:
    """Do what blocks for each, in threads. Raises the first error; others may be done, or not."""
    shares = (items[number::_THREADS] for number in range(_THREADS))
    await asyncio.gather(*(asyncio.to_thread(_work, share, work) for share in shares if share))


def _work(items: Iterable[T], work: Callable[[T], object]) -> None:
    for item in items:
        work(item)
