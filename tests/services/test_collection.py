"""What goes, what stays, and when: the whole life of content after its last root."""

import pytest

from entrepot.model.clock import DAY, HOUR
from entrepot.services.access import OPERATOR
from entrepot.services.repositories import Repositories
from tests.services.collecting import DELAY, GRACE, WINDOW, Yard, digest_of
from tests.services.conftest import on_every_store

APP, OTHER = "acme/app", "acme/other"


@pytest.fixture
def yard(world):
    return Yard(world)


@on_every_store
async def test_an_image_whose_tag_was_deleted_goes_with_its_bytes(yard):
    await yard.image(APP, "v1", layers=[b"layer"])
    await yard.delete_tag(APP, "v1")

    yard.world.clock.advance(WINDOW + HOUR)
    await yard.collect()
    assert not await yard.manifests()
    assert not await yard.blobs()
    assert len(yard.objects()) == 2, "a pull that is under way has its time"
    yard.world.clock.advance(DELAY + 1)
    done = await yard.collect()

    assert not yard.objects()
    assert done.objects == 2
    assert not await yard.queue()
    assert set((await yard.world.bytes_of()).values()) == {0}


async def test_what_was_deleted_stays_for_the_time_of_restoring(yard):
    digest = await yard.image(APP, "v1")
    yard.world.clock.advance(3 * DAY)
    await yard.delete_tag(APP, "v1")

    yard.world.clock.advance(WINDOW - HOUR)
    await yard.collect()

    assert await yard.manifests() == {digest}
    assert len(yard.objects()) == 1


@on_every_store
async def test_an_object_that_was_buried_before_keeps_no_other(yard):
    for content in (b"layer", b"other"):
        await yard.upload(APP, content)
    await yard.execute(
        "INSERT INTO tombstones (storage_key, digest, size, due_at)"
        " SELECT storage_key, digest, size, 1 FROM blobs WHERE digest = :digest",
        digest=digest_of(b"layer"),
    )

    for time in (GRACE, DELAY):
        yard.world.clock.advance(time + HOUR)
        assert not (await yard.collection().run()).failed

    assert not await yard.blobs()
    assert not yard.objects()


async def test_a_layer_that_another_image_needs_stays(yard):
    await yard.image(APP, "v1", layers=[b"shared", b"own"])
    kept = await yard.image(APP, "v2", layers=[b"shared"], note="2")
    await yard.delete_tag(APP, "v1")

    await yard.collect_all()

    assert await yard.manifests() == {kept}
    blobs = await yard.blobs()
    assert digest_of(b"shared") in blobs
    assert digest_of(b"own") not in blobs
    assert len(yard.objects()) == 2


async def test_a_layer_that_another_repository_has_stays_there(yard):
    await yard.image(APP, "v1", layers=[b"shared"])
    await yard.image(OTHER, "v1", layers=[b"shared"])
    await yard.delete_tag(APP, "v1")

    await yard.collect_all()

    rows = await yard.world.rows(
        "SELECT repository_id FROM blob_links WHERE digest = :digest", digest=digest_of(b"shared")
    )
    assert rows == [((await yard.repository(OTHER)).id,)]


async def test_an_image_of_many_platforms_lives_and_dies_as_one(yard):
    children = [await yard.image(APP, layers=[part], note=str(part)) for part in (b"arm", b"x86")]
    index = await yard.index(APP, children, "v1")
    signature = await yard.image(APP, layers=[b"signed"], note="sig", subject=index)
    of_a_child = await yard.image(APP, note="sbom", subject=children[0])
    cosign = await yard.image(APP, f"sha256-{index[7:]}.sig", note="cosign")
    everything = {*children, index, signature, of_a_child, cosign}

    await yard.collect_all()
    assert await yard.manifests() == everything
    await yard.delete_tag(APP, "v1")
    await yard.collect_all()

    assert not await yard.manifests()
    assert not yard.objects()
    assert not await yard.world.rows("SELECT 1 FROM tags")
    assert not await yard.queue()


async def test_a_signature_goes_alone_once_a_person_deleted_it(yard):
    image = await yard.image(APP, "v1")
    signature = await yard.image(APP, note="sig", subject=image)
    await yard.delete_manifest(APP, signature)

    await yard.collect_all()

    assert await yard.manifests() == {image}


async def test_a_blob_that_no_manifest_came_to_need_goes_after_its_protection(yard):
    digest = await yard.upload(APP, b"left over")

    yard.world.clock.advance(GRACE - HOUR)
    await yard.collect()
    assert await yard.blobs() == {digest}
    yard.world.clock.advance(2 * HOUR)
    await yard.collect()

    assert not await yard.blobs()


async def test_a_renewed_protection_is_waited_for(yard):
    digest = await yard.upload(APP, b"left over")
    yard.world.clock.advance(GRACE - HOUR)
    now = yard.world.clock.now()
    await yard.execute("UPDATE blob_links SET protected_until = :until", until=now + DAY)

    yard.world.clock.advance(2 * HOUR)
    await yard.collect()

    assert await yard.blobs() == {digest}
    ((kind, _, reason, due_at),) = await yard.queue()
    assert (kind, reason, due_at) == ("link", "protected", now + DAY)
    yard.world.clock.advance(DAY)
    await yard.collect()
    assert not await yard.blobs()


@on_every_store
async def test_a_digest_that_is_stored_again_has_another_object(yard):
    await yard.upload(APP, b"again")
    yard.world.clock.advance(GRACE + HOUR)
    await yard.collect()
    (first,) = yard.objects()

    await yard.upload(APP, b"again")
    yard.world.clock.advance(DELAY + 1)
    await yard.collect()

    (second,) = yard.objects()
    assert second != first
    assert await yard.blobs() == {digest_of(b"again")}


async def test_a_manifest_that_was_pushed_by_digest_is_retentions(yard):
    digest = await yard.image(APP)

    await yard.collect_all()

    assert await yard.manifests() == {digest}


async def test_an_orphan_that_is_tagged_again_stays(yard):
    digest = await yard.image(APP, "v1", layers=[b"layer"])
    await yard.delete_tag(APP, "v1")
    yard.world.clock.advance(WINDOW - HOUR)
    await yard.image(APP, "v2", layers=[b"layer"])

    await yard.collect_all()

    assert await yard.manifests() == {digest}
    assert len(yard.objects()) == 2


@on_every_store
async def test_a_round_deletes_all_objects_that_are_due_not_one_batch_of_them(yard):
    """Or the disk never shrinks where people delete without end."""
    await yard.execute(
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1001)
        INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
        SELECT 'blob', 0, 'sha256:' || i, 1, 1 FROM n
        """
    )
    for number in range(250):
        await yard.execute(
            "INSERT INTO tombstones (storage_key, digest, size, due_at) VALUES (:key, '', 1, 1)",
            key=f"{number:032x}",
        )
    heard = []

    await yard.collection().run(lambda done: heard.append((done.reviews, done.objects)))

    assert (1_000, 250) in heard


async def test_a_deleted_repository_is_emptied_and_its_name_is_free_of_it(yard):
    await yard.image(APP, "v1", layers=[b"layer"])
    child = await yard.image(APP, note="child")
    await yard.index(APP, [child], "v2")
    await yard.upload(APP, b"left over")
    gone = await yard.repository(APP)
    await delete_repository(yard, gone)

    yard.world.clock.advance(WINDOW - HOUR)
    await yard.collect()
    assert len(await yard.manifests()) == 3, "it can be restored"
    await yard.execute("DELETE FROM uploads")
    yard.world.clock.advance(2 * HOUR)
    await yard.collect()
    yard.world.clock.advance(DELAY + HOUR)
    await yard.collect()

    assert not await yard.world.rows("SELECT 1 FROM repositories WHERE id = :id", id=gone.id)
    assert not yard.objects()
    assert not await yard.queue()


@on_every_store
async def test_a_deleted_organisation_is_emptied(yard):
    for path in (APP, OTHER):
        await yard.image(path, "v1", layers=[b"layer"])
    organisation = (await yard.repository(APP)).organisation_id
    now = yard.world.clock.now()
    await yard.execute("UPDATE organisations SET deleted_at = :now WHERE slug = 'acme'", now=now)
    await yard.execute(
        "INSERT INTO review_queue (kind, repository_id, digest, due_at, version)"
        " VALUES ('organisation', :id, '', :due_at, 1)",
        id=organisation,
        due_at=now + WINDOW,
    )

    yard.world.clock.advance(WINDOW + HOUR)
    await yard.execute("DELETE FROM uploads")
    await yard.collect()
    yard.world.clock.advance(DELAY + HOUR)
    await yard.collect()

    assert not await yard.world.rows("SELECT 1 FROM repositories WHERE path IN ('app', 'other')")
    assert not yard.objects()


async def delete_repository(yard, repository):
    world = yard.world
    service = Repositories(
        world.database, world.clock, world.access, world.addresses, window=WINDOW
    )
    await service.delete(OPERATOR, repository.id, version=None)
