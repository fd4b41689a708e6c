"""Who has a digest, and what keeps it there."""

import pytest

from entrepot.model.clock import DAY, HOUR
from entrepot.services.keepers import Keepers
from tests.services.collecting import WINDOW, Yard, digest_of

APP, OTHER = "acme/app", "globex/other"


@pytest.fixture
def yard(world):
    return Yard(world)


async def reasons(yard, digest):
    keepers = Keepers(yard.database, yard.world.clock, restore=WINDOW)
    return {reason.holder.path: reason async for reason in keepers.of(digest)}


async def test_a_layer_is_kept_by_a_tag_through_index_and_manifest(yard):
    child = await yard.image(APP, layers=[b"layer"])
    index = await yard.index(APP, [child], "v1")
    single = await yard.image(OTHER, "latest", layers=[b"layer"])

    found = await reasons(yard, digest_of(b"layer"))

    assert found[APP].way == (("tag", "v1"), ("index", index), ("manifest", child))
    assert found[OTHER].way == (("tag", "latest"), ("manifest", single))
    assert found[APP].waiting is None


async def test_a_signature_is_kept_by_its_subject(yard):
    image = await yard.image(APP, "v1")
    signature = await yard.image(APP, note="sig", subject=image)
    cosign = await yard.image(APP, f"sha256-{image[7:]}.sig", note="cosign")

    for digest in (signature, cosign):
        assert (await reasons(yard, digest))[APP].way == (("tag", "v1"), ("subject", image))


async def test_what_waits_says_for_what_and_until_when(yard):
    image = await yard.image(APP, "v1", layers=[b"layer"])
    yard.world.clock.advance(2 * DAY)
    await yard.delete_tag(APP, "v1")
    loose = await yard.upload(APP, b"loose")

    assert (await reasons(yard, image))[APP].waiting == "restorable"
    assert (await reasons(yard, loose))[APP].waiting == "protected"
    layer = (await reasons(yard, digest_of(b"layer")))[APP]
    assert layer.waiting == "needed by a manifest without a tag"
    assert layer.way == (("manifest", image),)


async def test_an_object_that_is_to_go_is_known(yard):
    digest = await yard.upload(APP, b"loose")
    yard.world.clock.advance(DAY + HOUR)
    await yard.collect()

    assert not await reasons(yard, digest)
    keepers = Keepers(yard.database, yard.world.clock, restore=WINDOW)
    (found,) = await keepers.objects(digest)
    assert found.size == 5
