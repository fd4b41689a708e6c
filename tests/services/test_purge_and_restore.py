"""Restoring a repository against its purge: all of it comes back, or nothing does."""

import pytest

from entrepot.db import collection
from entrepot.model.clock import MINUTE
from entrepot.model.errors import NotFound
from entrepot.services.access import OPERATOR
from entrepot.services.purge import look_at_repository
from tests.services.collecting import WINDOW
from tests.services.test_restore import APP, Bench


@pytest.fixture
def bench(world):
    return Bench(world)


async def test_a_repository_of_which_something_is_gone_does_not_come_back(bench):
    """The node that purges has the faster clock, or the operator has just made the window longer."""
    yard = bench.yard
    await yard.image(APP, "v1")
    repository_id = await bench.id_of()
    await bench.repositories.delete(OPERATOR, repository_id, version=None)
    async with yard.database.read() as tx:
        (review,) = [
            found
            for found in await collection.find_due(tx, now=1 << 62, limit=100)
            if found.kind == "repository"
        ]
    late = yard.world.clock.now() + WINDOW + MINUTE
    await yard.database.write(lambda tx: look_at_repository(tx, [review], yard.limits, late))

    yard.world.clock.advance(WINDOW - MINUTE)
    with pytest.raises(NotFound):
        await bench.deletions.repository(OPERATOR, repository_id)
    organisation = await yard.world.rows("SELECT public_id FROM organisations WHERE slug = 'acme'")
    found, _ = await bench.deletions.page(
        OPERATOR, str(organisation[0][0]), before=1 << 62, limit=10
    )
    assert found == []
    await yard.collect_all()
    assert not yard.objects()
