"""What came from an upstream: it goes once nobody reads its repository, without a day's wait."""

import json

import pytest

from entrepot.db import accounts, collection, manifests, mirrored, tags
from entrepot.model.clock import HOUR, MINUTE
from entrepot.model.digests import Digest
from entrepot.model.ids import new_id
from tests.services.collecting import DELAY, IDLE, INDEX, Yard
from tests.services.test_eviction import mirrors  # noqa: F401  # a fixture

IMAGE = "application/vnd.oci.image.manifest.v1+json"


class Mirrored(Yard):
    """One pull-through repository, and what its upstream gives."""

    def __init__(self, world, mirror):
        super().__init__(world)
        self.mirror = mirror

    async def give(self, body, *tag_names, children=(), subject=None):
        """Keep a manifest as if it had been fetched; its digest."""
        content = json.dumps(body).encode()
        digest, repository, now = str(Digest.of(content)), self.mirror, self.world.clock.now()

        async def work(tx):
            await manifests.put(
                tx,
                repository.id,
                digest=digest,
                media_type=body["mediaType"],
                artifact_type=None,
                subject=subject,
                annotations=None,
                depth=int(bool(children)),
                body=content,
                now=now,
                protected_until=now + HOUR,
                is_pushed=False,
            )
            await accounts.gained(
                tx,
                organisation_id=repository.organisation_id,
                repository_id=repository.id,
                digest=digest,
                bytes_count=len(content),
                now=now,
                ids=(new_id(), new_id()),
            )
            await mirrored.put_children(tx, repository.id, digest, children)
            for name in tag_names:
                await tags.move(
                    tx, repository.id, name, digest, token_id=None, now=now, is_pushed=False
                )
            if not tag_names:
                await collection.review(tx, "manifest", repository.id, digest, due_at=now + HOUR)

        await self.database.write(work)
        return digest

    async def give_image(self, note, *tag_names, subject=None):
        body = {"schemaVersion": 2, "mediaType": IMAGE, "layers": [], "annotations": {"is": note}}
        return await self.give(body, *tag_names, subject=subject)

    async def lose_tag(self, name):
        """The upstream has it no more."""
        now = self.world.clock.now()

        async def work(tx):
            left = await tags.delete_mirrored(tx, self.mirror.id, name, now=now)
            assert left is not None
            await collection.review(tx, "manifest", self.mirror.id, left, due_at=now)

        await self.database.write(work)

    async def read(self):
        now = self.world.clock.now()
        await self.database.write(lambda tx: mirrored.note_accesses(tx, [self.mirror.id], at=now))
        return now


@pytest.fixture
def yard(world, mirrors):  # noqa: F811  # the fixture
    return Mirrored(world, mirrors.of["one"])


async def test_a_manifest_without_a_tag_goes_once_nobody_reads_its_repository(yard):
    digest = await yard.give_image("alone")
    yard.world.clock.advance(2 * HOUR)
    read_at = await yard.read()

    yard.world.clock.advance(IDLE - MINUTE)
    await yard.collect()
    assert await yard.manifests() == {digest}
    ((_, _, reason, due_at),) = await yard.queue()
    assert reason == "its repository is read"
    assert due_at == read_at + IDLE
    yard.world.clock.advance(2 * MINUTE)
    await yard.collect()

    assert not await yard.manifests()
    assert not await yard.queue()


async def test_what_a_tag_names_stays_until_the_upstream_has_it_no_more(yard):
    digest = await yard.give_image("tagged", "v1")
    yard.world.clock.advance(10 * IDLE)
    await yard.collect()
    assert await yard.manifests() == {digest}

    await yard.lose_tag("v1")
    await yard.collect()

    assert not await yard.manifests()


async def test_what_an_index_lists_goes_with_it(yard):
    child = await yard.give_image("child")
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    index = await yard.give(body, "v1", children=[child])
    yard.world.clock.advance(10 * IDLE)
    await yard.collect()
    assert await yard.manifests() == {child, index}

    await yard.lose_tag("v1")
    await yard.collect()
    yard.world.clock.advance(DELAY)
    await yard.collect()

    assert not await yard.manifests()


async def test_a_referrer_goes_with_its_subject(yard):
    subject = await yard.give_image("image", "v1")
    referrer = await yard.give_image("signature", subject=subject)
    yard.world.clock.advance(10 * IDLE)
    await yard.collect()
    assert await yard.manifests() == {subject, referrer}

    await yard.lose_tag("v1")
    await yard.collect()

    assert not await yard.manifests()
