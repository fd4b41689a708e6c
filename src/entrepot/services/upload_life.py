"""How an open session outlives its time while somebody adds to it, or ends it."""

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from entrepot.db import uploads
from entrepot.db.database import Database
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import EntrepotError
from entrepot.model.stored import UploadSession

_AGAIN = 30 * SECOND  # until what failed is tried again


class UploadLife:
    """Of one session, as one request sees it. `expire` is when it is abandoned, in µs."""

    def __init__(
        self, database: Database, clock: Clock, session: UploadSession, *, expire: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._id = session.id
        self._expire = expire
        self._renew_at = session.expires_at - expire + expire // 4

    async def go_on(self) -> None:
        """Renew it once a quarter of its time has passed; to be called now and then."""
        now = self._clock.now()
        if now < self._renew_at:
            return
        self._renew_at = now + min(_AGAIN, self._expire // 4)
        renew = partial(uploads.renew, upload_id=self._id, expires_at=now + self._expire)
        with suppress(EntrepotError):
            await self._database.write(renew, durable=False)
            self._renew_at = now + self._expire // 4

    async def through(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """All that comes; the session does not expire meanwhile, however long that takes."""
        async for piece in pieces:
            await self.go_on()
            yield piece
