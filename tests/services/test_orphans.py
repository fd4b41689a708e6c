"""Questions that collection is asked again, and orphans that others keep for a while."""

import pytest

from entrepot.db import collection, manifests, mirrored
from entrepot.model.names import Tag
from tests.services.collecting import Yard

APP = "acme/app"


@pytest.fixture
def yard(world):
    return Yard(world)


async def test_who_read_a_review_does_not_end_the_one_that_was_asked_for_after_it(yard):
    await yard.image(APP, "v1")
    repository = (await yard.repository(APP)).id

    async def ask():
        async def work(tx):
            await collection.review(tx, "link", repository, "sha256:a", due_at=1)
            await collection.review_all(tx, "link", repository, ["sha256:b"], due_at=1)
            return await collection.find_due(tx, now=1, limit=9)

        return await yard.database.write(work)

    async def finish(reviews):
        return await yard.database.write(lambda tx: collection.finish(tx, reviews))

    before = await ask()
    assert await finish(before) == 2
    after = await ask()

    assert await finish(before) == 0
    assert await finish(after) == 2


async def test_a_subject_without_a_tag_goes_when_the_tag_of_its_referrer_goes(yard):
    image = await yard.image(APP, "v1")
    referrer = await yard.image(APP, "sig", note="signature", subject=image)
    await yard.delete_tag(APP, "v1")
    await yard.collect_all()
    assert await yard.manifests() == {image, referrer}

    await yard.delete_tag(APP, "sig")
    await yard.collect_all()

    assert not await yard.manifests()


async def test_a_tag_at_a_deleted_manifest_names_nothing(yard):
    image = await yard.image(APP, "v1")
    repository = (await yard.repository(APP)).id
    await yard.execute("UPDATE manifests SET deleted_at = 1 WHERE digest = :digest", digest=image)

    async with yard.database.read() as tx:
        assert await manifests.find(tx, repository, Tag.parse("v1")) is None
        assert (await mirrored.find(tx, repository, "v1")).manifest is None
