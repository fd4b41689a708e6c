"""A request's body, in pieces that are worth handing to a thread."""

from collections.abc import AsyncIterator

from entrepot.model.errors import EntrepotError

# Received pieces are gathered to this size before a thread takes them: below it the hand-over costs
# more than the work, above it memory grows without gain.
BATCH_BYTES = 1024 * 1024
_BATCH_PIECES = 512  # the kernel takes at most 1,024 in one writev


class Batches:
    """Pieces gathered into batches.

    What ends the body early is kept in `stopped`, not raised: the bytes before it count.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.stopped: EntrepotError | None = None

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        batch: list[bytes] = []
        gathered = 0
        try:
            async for piece in self._pieces:
                batch.append(piece)
                gathered += len(piece)
                if gathered >= BATCH_BYTES or len(batch) == _BATCH_PIECES:
                    yield batch
                    batch, gathered = [], 0
        except EntrepotError as error:
            self.stopped = error
        if batch:
            yield batch
