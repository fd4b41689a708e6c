"""What a server administrator can switch while the server runs."""

from dataclasses import dataclass

from entrepot.db import installation
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Actor
from entrepot.model.clock import Clock
from entrepot.model.tenancy import Change
from entrepot.services.access import Access
from entrepot.services.audit import record

_READ_ONLY = "read_only"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The switches. Read-only: pulls go on, whatever would change content is refused."""

    is_read_only: bool


class Server:
    """The installation as a whole."""

    def __init__(self, database: Database, clock: Clock, access: Access) -> None:
        self._database = database
        self._clock = clock
        self._access = access

    async def settings(self, actor: Actor) -> ServerSettings:
        """The switches as they are. Raises Unauthenticated, Denied."""
        async with self._database.read() as tx:
            await self._access.administer(tx, actor)
            return await self._read(tx)

    async def change(self, actor: Actor, wanted: ServerSettings) -> ServerSettings:
        """Set the switches; on every node within 5 s. Raises Unauthenticated, Denied."""

        async def work(tx: Transaction) -> ServerSettings:
            await self._access.administer(tx, actor)
            if await self._read(tx) == wanted:
                return wanted
            if wanted.is_read_only:
                await installation.put(tx, _READ_ONLY, "1")
            else:
                await installation.remove(tx, _READ_ONLY)
            details = {"is_read_only": wanted.is_read_only}
            change = Change("server.changed", "server", "", "server", details=details)
            await record(tx, actor, change, now=self._clock.now())
            return wanted

        return await self._database.write(work)

    @staticmethod
    async def _read(tx: Transaction) -> ServerSettings:
        return ServerSettings(await installation.find(tx, _READ_ONLY) is not None)
