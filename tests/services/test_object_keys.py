"""The key of an object in a blob's row and in a tombstone: never both, whatever came in between."""

import pytest

from entrepot.model.clock import DAY
from entrepot.services.holdings import keep_object
from tests.services.collecting import GRACE, Yard, digest_of

APP = "acme/app"
CONTENT = b"layer"


@pytest.fixture
def yard(world):
    return Yard(world)


def put_object(yard, key):
    path = yard.world.data / "blobs" / key[:2] / key
    path.write_bytes(CONTENT)
    return path


async def keep(yard, key):
    now = yard.world.clock.now()
    stamp = yard.store.stamp(key, len(CONTENT))
    await yard.database.write(
        lambda tx: keep_object(
            tx,
            yard.store,
            digest=digest_of(CONTENT),
            size=len(CONTENT),
            storage_key=key,
            stamp=stamp,
            now=now,
            due_at=now + GRACE,
        )
    )


async def test_a_duplicate_that_replaces_a_lost_object_after_all_is_not_buried(yard):
    """The COMMIT of the first attempt is not heard of; then the object of the others is lost."""
    await yard.upload(APP, CONTENT)
    (first,) = yard.objects()
    second = "5" * 32
    put_object(yard, second)
    await keep(yard, second)
    (yard.world.data / "blobs" / first[:2] / first).unlink()
    await keep(yard, second)

    yard.world.clock.advance(GRACE - DAY // 2)
    await yard.collect()
    buried = await yard.world.rows("SELECT storage_key FROM tombstones")
    await yard.collect_all()

    assert (second,) not in buried
    assert not await yard.blobs()
    assert not yard.objects()
    assert not await yard.queue()
