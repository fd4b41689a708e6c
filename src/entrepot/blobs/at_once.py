"""Asking a store for many things: some at once, because each waits for the network."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_AT_ONCE = 4  # threads are few, and others wait for them too


async def for_each(items: Sequence[T], work: Callable[[T], object]) -> None:
    """Do what blocks for each, in threads. Raises the first error; others may be done, or not."""
    left = iter(items)

    async def take() -> None:
        for item in left:
            await asyncio.to_thread(work, item)

    tasks = [asyncio.create_task(take()) for _ in range(min(_AT_ONCE, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
