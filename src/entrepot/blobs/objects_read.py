"""Reading objects: an answer that breaks off is asked for again, from where it stopped."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from entrepot.blobs.objects_faults import pauses, store_faults, wrong_size
from entrepot.blobs.objects_place import Way
from entrepot.model.errors import EntrepotError, ObjectMissing, Unavailable

if TYPE_CHECKING:
    from obstore import GetResult

# Each piece crosses from obstore's threads into the loop, which costs as much as copying 200 KiB.
_PIECE_BYTES = 512 * 1024
_ATTEMPTS = 5  # at one place of an object


class Reader:
    """Reads by way of `asks`."""

    def __init__(self, asks: Way) -> None:
        self._asks = asks

    async def read(
        self, name: str, start: int, stop: int, size: int
    ) -> AsyncGenerator[bytes, None]:
        """Bytes from `start` up to `stop` of an object that is `size` long, in pieces.

        One request, and further ones where an answer breaks off, or where an object is not there
        or not as long: some stores show the newest a moment later. A store that does not answer
        has been asked often enough. Raises ObjectMissing, StorageFailed, Unavailable.
        """
        waits = pauses(_ATTEMPTS - 1)
        failure: EntrepotError
        while start < stop:
            failure = Unavailable("the registry's object store broke off; try again", key=name)
            try:
                answer = await self._ask(name, start, stop, size)
            except ObjectMissing as error:
                failure = error
            else:
                try:
                    async with aclosing(_pieces(answer, name)) as pieces:
                        async for piece in pieces:
                            start += len(piece)
                            waits = pauses(_ATTEMPTS - 1)
                            yield piece
                except Unavailable as error:
                    failure = error
            if start < stop:
                if (wait := next(waits, None)) is None:
                    raise failure
                await asyncio.sleep(wait)

    async def _ask(self, name: str, start: int, stop: int, size: int) -> "GetResult":
        with store_faults("read an object", name):
            answer = await self._asks.get_async(name, options={"range": (start, stop)})
        if answer.meta["size"] != size or answer.range != (start, stop):
            raise wrong_size(name, size, answer.meta["size"])
        return answer


async def _pieces(answer: "GetResult", name: str) -> AsyncGenerator[bytes, None]:
    with store_faults("read an object", name):
        async for piece in answer.stream(_PIECE_BYTES):
            yield bytes(piece)
