"""One running registry under test, and the people who may ask it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from entrepot.db.database import Database
from entrepot.identity.bearer import BearerKey
from entrepot.identity.keys import KeyRing
from entrepot.identity.tokens import hash_token
from entrepot.model.access import Kind
from entrepot.model.clock import HOUR, SystemClock
from entrepot.services.tenancy import Tenancy
from entrepot.services.tokens import TokenRequest
from tests.support.kept_database import KeptDatabase
from tests.support.server import Client, Server, basic

T = TypeVar("T")

ACTIONS = "pull,push,delete"


@dataclass(slots=True, eq=False)
class Registry:
    """A server, its database and its public host, whose sub-domains are organisations."""

    server: Server
    public_host: str
    _kept: KeptDatabase | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def key(self) -> BearerKey:
        """What the server signs bearer tokens with."""
        return BearerKey(KeyRing.at(self.server.data / "secret.key", SystemClock()))

    @property
    def host(self) -> str:
        """The audience of bearer tokens for whoever asks by address."""
        return f"127.0.0.1:{self.server.port}"

    def ask(self, use: Callable[[Database], Awaitable[T]]) -> T:
        """Use the server's database from outside, as `entrepot admin` does."""
        if self._kept is None:
            self._kept = self.server.ending.enter_context(KeptDatabase(self._database_url))
        return self._kept.ask(use)

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        async def use(database: Database) -> list[tuple[Any, ...]]:
            async with database.read() as tx:
                return [tuple(row) for row in await tx.fetch_all(sql, **values)]

        return self.ask(use)

    def change(self, sql: str, **values: Any) -> int:
        return self.ask(lambda database: database.write(lambda tx: tx.execute(sql, **values)))

    def new_token(
        self,
        kind: str = "user",
        organisation: str = "main",
        *,
        is_expired: bool = False,
        **fields: Any,
    ) -> str:
        """A fresh secret; `is_expired` makes one that ended two hours ago."""
        request = TokenRequest(kind=Kind(kind), organisation=organisation, **fields)
        token = self.ask(lambda database: Tenancy(database, SystemClock()).add_token(request))
        if is_expired:
            self.change(
                "UPDATE tokens SET expires_at = :at WHERE hash = :hash",
                at=SystemClock().now() - 2 * HOUR,
                hash=hash_token(token),
            )
        return token

    def revoke(self, token: str) -> None:
        assert self.ask(lambda database: Tenancy(database, SystemClock()).revoke_token(token))

    def new_organisation(self, slug: str) -> None:
        self.ask(lambda database: Tenancy(database, SystemClock()).add_organisation(slug))

    def new_project(self, organisation: str = "main") -> str:
        return self.ask(
            lambda database: Tenancy(database, SystemClock()).add_project(organisation, "project")
        )

    def client(self, token: str | None, mode: str = "basic") -> Client:
        return Client(self.server, token=token, mode=mode)

    def bearer(self, token: str | None, *scopes: str) -> dict[str, str]:
        """The header of a bearer token that the token service issues for these scopes."""
        answer = httpx.get(
            f"{self.url}/v2/token",
            params={"service": self.host, "scope": list(scopes)},
            headers=basic(token) if token else {},
            verify=self.server.trust,
        )
        assert answer.status_code == 200, answer.text
        return {"authorization": f"Bearer {answer.json()['token']}"}

    @property
    def _database_url(self) -> str:
        return self.server.database_url or f"sqlite:///{self.server.data}/entrepot.db"


def credential_of(registry: Registry, client: Client, name: str) -> dict[str, str]:
    """The header by which this caller may do anything to a repository; for raw requests."""
    if client.mode == "open":
        return {}
    if client.mode == "basic":
        assert client.token
        return basic(client.token)
    return registry.bearer(client.token, f"repository:{name}:{ACTIONS}")
