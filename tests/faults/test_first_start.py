"""Nodes that start together on one empty database."""

import asyncio

from entrepot.db.connect import connect
from entrepot.db.migrate import migrate
from entrepot.identity.tokens import new_token
from entrepot.model.access import Kind
from entrepot.model.clock import SystemClock
from entrepot.services.tenancy import Tenancy


async def test_one_of_two_first_starts_makes_the_token_and_the_other_goes_on(database_url):
    await migrate(database_url)
    databases = [connect(database_url, pool_size=1) for _ in range(4)]
    for database in databases:
        await database.open()

    tokens = await asyncio.gather(
        *(
            Tenancy(database, SystemClock()).first_start(new_token(Kind.USER))
            for database in databases
        )
    )

    for database in databases:
        await database.close()
    assert len([token for token in tokens if token]) == 1
