"""Waiting for threads that work on a file which must stay open for them."""

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def settle(running: "asyncio.Future[T]") -> None:
    """Wait for a thread's end, however it ends and however often we are cancelled."""
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            continue
    if not running.cancelled():
        running.exception()


async def finish(running: "asyncio.Future[T]") -> T:
    """What the thread returns; a cancelled caller waits until it has let go of the file."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await settle(running)
        raise
