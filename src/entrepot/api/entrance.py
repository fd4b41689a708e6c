"""The way into the management API, which is loaded when somebody first asks for it.

Its framework takes about as long to import as all the rest of a start, and 30 MB of each worker;
most workers never need it.
"""

import asyncio
from typing import TYPE_CHECKING

from entrepot.api.management import Management
from entrepot.services.idempotency import Idempotency
from entrepot.telemetry.metrics import Requests
from entrepot.web.authenticate import Authenticator
from entrepot.web.hosts import Hosts
from entrepot.web.requests import Receive, Scope, Send

if TYPE_CHECKING:
    from entrepot.api.surface import ApiSurface


class ApiEntrance:
    """Answers the management API (ASGI). `version` is the program's."""

    def __init__(
        self,
        management: Management,
        authenticator: Authenticator,
        hosts: Hosts,
        requests: Requests,
        idempotency: Idempotency,
        *,
        version: str,
    ) -> None:
        self._management = management
        self._parts = (authenticator, hosts, requests, idempotency)
        self._version = version
        self._surface: ApiSurface | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the first waits about a second, and holds nobody else up."""
        async with self._loading:
            if self._surface is None:
                self._surface = await asyncio.to_thread(self._load)
        await self._surface(scope, receive, send)

    def _load(self) -> "ApiSurface":
        from entrepot.api.application import build  # noqa: PLC0415  # see above
        from entrepot.api.surface import ApiSurface  # noqa: PLC0415

        return ApiSurface(build(self._management, self._version), *self._parts)
