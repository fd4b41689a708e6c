"""What leaves a pull-through repository, what stays, and that nothing is counted wrongly."""

import asyncio
import random

import psycopg
import pytest

from entrepot.db import blobs, mirrored, repositories
from entrepot.model.access import Place
from entrepot.model.clock import DAY, HOUR, MINUTE, SECOND
from entrepot.model.digests import Digest
from entrepot.model.errors import ManifestBlobUnknown
from entrepot.model.ids import new_id
from entrepot.model.upstreams import Source
from entrepot.services.access import OPERATOR
from entrepot.services.eviction import Eviction, EvictionLimits
from entrepot.services.holdings import hold_blob
from tests.services.conftest import address
from tests.services.test_content import document, organisation_id, push
from tests.support.eventually import eventually
from tests.support.invariants import check_invariants

IDLE = 6 * HOUR
CONTENTS = [b"a" * 100, b"b" * 2_000, b"c" * 30_000, b"d" * 7]


class Mirrors:
    """Pull-through repositories of one organisation, and what tests do to them."""

    def __init__(self, world, upstream_id, organisation):
        self.world = world
        self.upstream_id = upstream_id
        self.organisation = organisation
        self.of = {}

    async def add(self, path, *, is_mirror=True):
        source = Source(self.upstream_id, path, accepts_push=True) if is_mirror else None

        async def work(tx):
            now = self.world.clock.now()
            made = await repositories.ensure(
                tx, Place(self.organisation, path), new_id=new_id(), now=now, source=source
            )
            await tx.execute(
                "UPDATE repositories SET accepts_push = 1 WHERE id = :id",
                id=made.id,
            )
            return await repositories.find_by_id(tx, made.id)

        self.of[path] = await self.world.database.write(work)
        return self.of[path]

    async def fetch(self, path, content, *, protect=SECOND):
        """Hold a blob as if it had been fetched; its bytes come from a push elsewhere."""
        digest = await self.world.upload(OPERATOR, address("acme/elsewhere"), content)

        async def work(tx):
            now = self.world.clock.now()
            await hold_blob(
                tx,
                self.of[path],
                str(digest),
                len(content),
                now=now,
                protected_until=now + protect,
            )

        await self.world.database.write(work)
        return str(digest)

    async def read(self, path):
        now = self.world.clock.now()
        await self.world.database.write(
            lambda tx: mirrored.note_accesses(tx, [self.of[path].id], at=now)
        )

    async def held(self, path):
        rows = await self.world.rows(
            """
            SELECT digest
              FROM blob_links
             WHERE repository_id = :id
               AND deleted_at IS NULL
             ORDER BY digest
            """,
            id=self.of[path].id,
        )
        return [row[0] for row in rows]

    def eviction(self, most_bytes=None):
        limits = EvictionLimits(IDLE, most_bytes)
        return Eviction(self.world.database, self.world.clock, limits)

    def check(self):
        check_invariants(
            self.world.url,
            self.world.data,
            now=self.world.clock.now() / SECOND,
            grace_seconds=10**9,
            late_seconds=10**9,
        )


@pytest.fixture
async def mirrors(world):
    organisation = await organisation_id(world, "acme")
    upstream_id = new_id()

    async def work(tx):
        await tx.execute(
            """
            INSERT INTO upstreams (id, organisation_id, name, preset, origin, auth_kind, auth_name,
                                   external_id, credential_version, created_at, version)
            VALUES (:id, :organisation_id, 'up', 'custom', 'http://127.0.0.1:9', 'none', '', '',
                    1, 0, 1)
            ON CONFLICT (id) DO NOTHING
            """,
            id=upstream_id,
            organisation_id=organisation,
        )

    await world.database.write(work)
    made = Mirrors(world, upstream_id, organisation)
    await made.add("one")
    await made.add("two")
    return made


async def test_blobs_leave_a_repository_that_nobody_read_for_long(world, mirrors):
    digest = await mirrors.fetch("one", CONTENTS[0])
    counted = await world.bytes_of()
    world.clock.advance(IDLE + MINUTE)

    assert await mirrors.eviction().sweep() == 1

    assert await mirrors.held("one") == []
    [(due_at,)] = await world.rows(
        "SELECT due_at FROM review_queue WHERE kind = 'link' AND digest = :d AND repository_id = :r",
        d=digest,
        r=mirrors.of["one"].id,
    )
    assert due_at <= world.clock.now()
    assert await world.bytes_of() == counted  # until collection has removed the row
    mirrors.check()
    assert await mirrors.eviction().sweep() == 0


async def test_one_read_keeps_all_blobs_of_a_repository(world, mirrors):
    await mirrors.fetch("one", CONTENTS[0])
    await mirrors.fetch("one", CONTENTS[1])
    await mirrors.fetch("two", CONTENTS[2])
    world.clock.advance(IDLE)
    await mirrors.read("one")
    world.clock.advance(HOUR)

    assert await mirrors.eviction().sweep() == 1

    assert len(await mirrors.held("one")) == 2
    assert await mirrors.held("two") == []


async def test_what_is_protected_pushed_or_hosted_stays(world, mirrors):
    hosted = await mirrors.add("hosted", is_mirror=False)
    assert hosted.source is None
    await mirrors.fetch("hosted", CONTENTS[0])
    await mirrors.fetch("one", CONTENTS[1], protect=7 * DAY)
    await mirrors.fetch("two", CONTENTS[2])
    await push(world, OPERATOR, address("acme/two"), document(config=CONTENTS[2]), "v1")
    world.clock.advance(2 * DAY)

    assert await mirrors.eviction().sweep() == 0

    mirrors.check()


async def test_what_a_deleted_manifest_may_need_again_stays(world, mirrors):
    await mirrors.fetch("one", CONTENTS[0])
    pushed = await push(world, OPERATOR, address("acme/one"), document(config=CONTENTS[0]))
    await world.delete.manifest(OPERATOR, address("acme/one"), pushed.digest)
    world.clock.advance(2 * DAY)

    assert await mirrors.eviction().sweep() == 0


async def test_a_blob_that_comes_back_is_counted_once(world, mirrors):
    digest = await mirrors.fetch("one", CONTENTS[0])
    counted = await world.bytes_of()
    world.clock.advance(IDLE + MINUTE)
    await mirrors.eviction().sweep()

    assert await mirrors.fetch("one", CONTENTS[0]) == digest

    assert await world.bytes_of() == counted
    assert await mirrors.held("one") == [digest]
    mirrors.check()


async def test_a_budget_takes_what_was_read_longest_ago(world, mirrors):
    await mirrors.add("three")
    for path, content in zip(("one", "two", "three"), CONTENTS, strict=False):
        await mirrors.fetch(path, content)
        world.clock.advance(MINUTE)
        await mirrors.read(path)
    await mirrors.read("one")

    assert await mirrors.eviction(most_bytes=50_000).sweep() == 0
    assert await mirrors.eviction(most_bytes=31_000).sweep() == 1

    assert await mirrors.held("two") == []
    assert len(await mirrors.held("one")) == len(await mirrors.held("three")) == 1
    mirrors.check()


async def test_more_blobs_than_one_batch_leave(world, mirrors):
    for number in range(130):
        await mirrors.fetch("one", b"%d" % number)
    world.clock.advance(IDLE + MINUTE)

    assert await mirrors.eviction().sweep() == 130


async def test_an_eviction_that_runs_twice_takes_nothing_more(world, mirrors):
    await mirrors.fetch("one", CONTENTS[0])
    world.clock.advance(IDLE + MINUTE)
    world.database.is_twice = True

    await mirrors.eviction().sweep()

    world.database.is_twice = False
    mirrors.check()


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_rule_holds_and_the_books_are_right(world, mirrors, seed):
    random_ = random.Random(seed)
    await mirrors.add("hosted", is_mirror=False)
    pushed = []
    for _ in range(60):
        path = random_.choice(["one", "two", "hosted"])
        content = random_.choice(CONTENTS)
        match random_.randrange(6):
            case 0 | 1:
                await mirrors.fetch(path, content)
            case 2:
                body = document(config=content, note=str(random_.randrange(3)))
                try:
                    made = await push(world, OPERATOR, address(f"acme/{path}"), body, "v1")
                    pushed.append((path, made.digest))
                except ManifestBlobUnknown:
                    assert str(Digest.of(content)) not in await mirrors.held(path)
            case 3 if pushed:
                where, digest = pushed.pop(random_.randrange(len(pushed)))
                if all(digest != other for _, other in pushed):
                    await world.delete.manifest(OPERATOR, address(f"acme/{where}"), digest)
            case 4:
                await mirrors.read(path)
            case _:
                world.clock.advance(random_.randrange(8) * HOUR)
        if random_.random() < 0.4:
            await evict_by_the_rule(mirrors)
    mirrors.check()


async def evict_by_the_rule(mirrors):
    """Evict, and compare with what the rule says of the rows as they were."""
    world = mirrors.world
    links = await world.rows(
        """
        SELECT l.repository_id, l.digest, l.protected_until, r.upstream_id,
               COALESCE(r.accessed_at, r.created_at)
          FROM blob_links AS l
          JOIN repositories AS r ON r.id = l.repository_id
         WHERE l.deleted_at IS NULL
        """
    )
    needed = set(await world.rows("SELECT repository_id, digest FROM manifest_blobs"))
    now = world.clock.now()
    stays = {
        (repository, digest)
        for repository, digest, protected_until, upstream_id, read_at in links
        if upstream_id is None
        or (repository, digest) in needed
        or protected_until > now
        or read_at > now - IDLE
    }

    await mirrors.eviction().sweep()

    left = await world.rows("SELECT repository_id, digest FROM blob_links WHERE deleted_at IS NULL")
    assert set(left) == stays


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_push_that_is_under_way_keeps_its_blobs(world, mirrors):
    """The eviction waits for the row that the push has locked, and then leaves it alone.

    SQLite has one writer.
    """
    digest = await mirrors.fetch("one", CONTENTS[0])
    world.clock.advance(IDLE + MINUTE)
    is_locked, may_go_on = asyncio.Event(), asyncio.Event()

    async def pushing(tx):
        until = world.clock.now() + DAY
        assert await blobs.protect(tx, mirrors.of["one"].id, digest, protected_until=until)
        is_locked.set()
        await may_go_on.wait()

    push_ = asyncio.create_task(world.database.write(pushing))
    await asyncio.wait_for(is_locked.wait(), 10)
    evicting = asyncio.create_task(mirrors.eviction().sweep())
    await asyncio.to_thread(eventually, lambda: is_waiting(world.url))
    may_go_on.set()
    await push_

    assert await evicting == 0
    assert await mirrors.held("one") == [digest]


def is_waiting(url):
    """Whether somebody waits for a lock in this database."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            """
            SELECT 1
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND wait_event_type = 'Lock'
            """
        )
        return found.fetchone() is not None
