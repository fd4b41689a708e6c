"""The first start, and what the operator makes without a server: nobody is asked who they are."""

from entrepot.db import installation, members, tokens, users
from entrepot.db.database import Database, Transaction
from entrepot.identity.tokens import hash_token
from entrepot.model.access import Credential, Kind, Role
from entrepot.model.clock import DAY, Clock
from entrepot.model.errors import Conflict, Taken
from entrepot.model.ids import new_id, new_public_id
from entrepot.services.access import OPERATOR, Access
from entrepot.services.addresses import DEFAULT_ORGANISATION, Addresses
from entrepot.services.organisations import Organisations
from entrepot.services.projects import Projects
from entrepot.services.repositories import Repositories
from entrepot.services.tokens import FIRST_USER, TokenRequest, Tokens

FIRST_ORGANISATION = "main"


class Tenancy:
    """Who there is."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        addresses = Addresses(database)
        access = Access(clock, addresses)
        self._organisations = Organisations(database, clock, access)
        repositories = Repositories(database, clock, access, addresses, window=DAY)
        self._projects = Projects(database, clock, access, repositories)
        self._tokens = Tokens(database, clock, access)

    async def first_start(self, token: str) -> bool:
        """Make organisation `main` and user `admin`, who has `token`; False where they are.

        The caller keeps the token before this runs: only its hash is stored.
        """

        async def work(tx: Transaction) -> bool:
            if await installation.find(tx, DEFAULT_ORGANISATION) is not None:
                # Ours, if this is the second try after a COMMIT whose end was not known.
                return await tokens.find_by_hash(tx, hash_token(token)) is not None
            now = self._clock.now()
            made = await self._organisations.add(
                tx, new_id(), public_id=new_public_id(), slug=FIRST_ORGANISATION
            )
            organisation_id = made.id
            await installation.put(tx, DEFAULT_ORGANISATION, str(organisation_id))
            user_id = new_id()
            await users.add(tx, id=user_id, name=FIRST_USER, is_administrator=True, now=now)
            await members.put(
                tx, organisation_id=organisation_id, user_id=user_id, role=Role.OWNER, now=now
            )
            credential = Credential(new_id(), Kind.USER, user_id=user_id)
            await tokens.add(
                tx, credential, token_hash=hash_token(token), name="first start", now=now
            )
            return True

        try:
            return await self._database.write(work)
        except (Conflict, Taken):
            # Another node was first: nothing is there to lock until it has committed.
            return await self._database.write(work)

    async def default_organisation(self) -> int | None:
        """The organisation of names that name none."""
        async with self._database.read() as tx:
            value = await installation.find(tx, DEFAULT_ORGANISATION)
        return int(value) if value is not None else None

    async def add_organisation(self, slug: str) -> int:
        """Make an organisation. Raises NameInvalid, Taken."""
        return (await self._organisations.create(OPERATOR, slug)).id

    async def add_project(self, organisation: str, name: str) -> str:
        """Make a project; its public id. Raises NotFound."""
        return (await self._projects.create(OPERATOR, organisation, name)).public_id

    async def add_token(self, request: TokenRequest) -> str:
        """Make a token and show it, once. Raises NotFound, FieldInvalid."""
        _, secret = await self._tokens.create(OPERATOR, request)
        return secret

    async def revoke_token(self, secret: str) -> bool:
        """End a token for good; whether it was good until now."""
        return await self._tokens.revoke_secret(secret)
