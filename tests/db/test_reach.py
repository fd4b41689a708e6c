"""Knocking at a PostgreSQL server that is a standby, or not there yet."""

import asyncio

import pytest

from entrepot.db.reach import require_reachable
from entrepot.model.errors import StartRefused
from tests.support.postgres import new_cluster

pytestmark = pytest.mark.slow  # servers of their own


@pytest.fixture
def cluster(stopped_postgres):
    with new_cluster() as cluster:
        cluster.copy(stopped_postgres)
        cluster.start()
        yield cluster


async def test_a_standby_is_refused_and_taken_once_it_was_promoted(cluster):
    with new_cluster() as standby:
        standby.follow(cluster)
        standby.start()

        with pytest.raises(StartRefused, match="name the primary in ENTREPOT_DATABASE__URL"):
            await require_reachable(standby.url, patience=0)

        waiting = asyncio.create_task(require_reachable(standby.url, patience=60))
        await asyncio.to_thread(standby.promote)
        await waiting


async def test_a_server_that_starts_together_with_us_is_waited_for(cluster):
    cluster.stop()

    waiting = asyncio.create_task(require_reachable(cluster.url, patience=60))
    await asyncio.sleep(0)
    await asyncio.to_thread(cluster.start)

    await waiting
