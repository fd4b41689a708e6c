"""Quotas: refused with the numbers, exact under parallel pushes, and nothing where there are none."""

import asyncio

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.db import organisations, usage
from entrepot.model.digests import Digest
from entrepot.model.errors import Denied, ManifestUnknown, NameUnknown
from entrepot.model.names import Tag
from entrepot.model.usage import Held, Quota, Share, readable, shares
from entrepot.services.quotas import Quotas
from entrepot.services.usage import Usage
from tests.services.conftest import address
from tests.services.test_content import document, push

LAYERS = [bytes([number]) * 100 * (number + 1) for number in range(6)]


@pytest.fixture
async def acme(world):
    """The services, with an organisation of its own to limit."""
    world.quotas = Quotas(world.database, world.clock)
    world.usage = Usage(world.database, world.clock, world.access)
    async with world.database.read() as tx:
        found = await organisations.find(tx, "acme")
    assert found is not None
    world.acme = found.id
    world.actor = await world.token("org", "acme")
    return world


async def limit(world, **limits):
    async def work(tx):
        await tx.execute(
            """
            UPDATE organisations
               SET quota_bytes = :bytes, quota_repositories = :repositories, quota_tags = :tags
             WHERE id = :id
            """,
            id=world.acme,
            **{"bytes": None, "repositories": None, "tags": None, **limits},
        )

    await world.database.write(work)


async def held(world):
    async with world.database.read() as tx:
        return await usage.current(tx, world.acme)


async def held_by_hand(world):
    """Bytes and pushed tags of the organisation, from the rows themselves."""
    rows = await world.rows(
        """
        SELECT l.digest, b.size
          FROM blob_links AS l
          JOIN blobs AS b ON b.digest = l.digest
          JOIN repositories AS r ON r.id = l.repository_id
         WHERE r.organisation_id = :id
         UNION
        SELECT m.digest, m.size
          FROM manifests AS m
          JOIN repositories AS r ON r.id = m.repository_id
         WHERE r.organisation_id = :id
        """,
        id=world.acme,
    )
    ((tags,),) = await world.rows(
        """
        SELECT COUNT(*)
          FROM tags AS t
          JOIN repositories AS r ON r.id = t.repository_id
         WHERE r.organisation_id = :id
           AND t.is_pushed = 1
        """,
        id=world.acme,
    )
    return sum(size for _, size in rows), tags


async def test_a_blob_that_does_not_fit_is_refused_with_the_numbers(acme):
    await limit(acme, bytes=250)
    await acme.upload(acme.actor, address("acme/app"), LAYERS[0])

    with pytest.raises(Denied, match="quota is 250 B") as refused:
        await acme.upload(acme.actor, address("acme/app"), LAYERS[1])

    assert {key: refused.value.values[key] for key in ("quota", "limit", "used")} == {
        "quota": "bytes",
        "limit": 250,
        "used": 300,
    }
    assert (await held(acme)).bytes == 100


async def test_what_the_organisation_has_already_needs_no_room(acme):
    await acme.upload(acme.actor, address("acme/app"), LAYERS[0])
    await limit(acme, bytes=100)

    await acme.upload(acme.actor, address("acme/other"), LAYERS[0])

    assert (await held(acme)).bytes == 100


async def test_an_organisation_with_a_quota_does_not_limit_another(acme):
    await limit(acme, bytes=0, tags=0, repositories=0)
    other = await acme.token("org", "globex")

    await acme.upload(other, address("globex/app"), LAYERS[0])


async def test_a_new_tag_beyond_the_quota_is_refused_and_a_known_one_moves(acme):
    where = address("acme/app")
    await acme.upload(acme.actor, where, LAYERS[0])
    await limit(acme, tags=1)
    await push(acme, acme.actor, where, document(config=LAYERS[0]), "v1")

    await push(acme, acme.actor, where, document(config=LAYERS[0], note="2"), "v1")
    with pytest.raises(Denied, match="quota is 1 tags"):
        await push(acme, acme.actor, where, document(config=LAYERS[0]), "v2")

    assert (await held(acme)).tags == 1
    await acme.delete.tag(acme.actor, where, Tag.parse("v1"))
    await push(acme, acme.actor, where, document(config=LAYERS[0]), "v2")
    assert (await held(acme)).tags == 1


async def test_a_new_repository_beyond_the_quota_is_refused(acme):
    await limit(acme, repositories=1)
    await acme.upload(acme.actor, address("acme/app"), LAYERS[0])

    with pytest.raises(Denied, match="quota is 1 repositories"):
        await acme.upload(acme.actor, address("acme/other"), LAYERS[0])

    await acme.upload(acme.actor, address("acme/app"), LAYERS[1])


async def test_open_uploads_count_before_bytes_are_received(acme):
    async def body(*pieces):
        for piece in pieces:
            yield piece

    await limit(acme, bytes=1_000)
    where = address("acme/app")
    session = await acme.uploads.open(acme.actor, where, algorithm="sha256")
    await acme.uploads.append(session, body(b"x" * 900), None)
    async with acme.database.read() as tx:
        found = await acme.addresses.find(tx, where)

    with pytest.raises(Denied, match=r"holds 900 B.*200 B more do not fit"):
        await acme.quotas.let_in(found, 200, body(b"y" * 200))

    assert b"".join([piece async for piece in await acme.quotas.let_in(found, 100, body(b"z"))])
    unknown = await acme.quotas.let_in(found, None, body(b"a" * 60, b"b" * 60))
    assert await anext(unknown) == b"a" * 60
    with pytest.raises(Denied):
        await anext(unknown)
    await acme.uploads.cancel(
        await acme.uploads.find(acme.actor, found, session.id, opened_before=2**62)
    )
    await acme.quotas.let_in(found, 1_000, body())


contents = st.integers(0, len(LAYERS) - 1)
places = st.sampled_from(["acme/a", "acme/b"])
actions = st.one_of(
    st.tuples(st.just("upload"), places, contents),
    st.tuples(st.just("cancel"), places, contents),
    st.tuples(st.just("push"), places, contents, st.sampled_from(["v1", "v2", "v3", "v4"])),
    st.tuples(st.just("untag"), places, st.sampled_from(["v1", "v2", "v3", "v4"])),
    st.tuples(st.just("fold"), places),
)


@given(rounds=st.lists(st.lists(actions, min_size=1, max_size=6), max_size=8))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_never_above_the_quota_and_the_counter_is_the_sum_of_the_rows(played, rounds):
    played(rounds)


async def half():
    yield b"half"


async def act(acme, action, where, *what):
    where = address(where)
    if action == "fold":
        await acme.usage.fold()
        return
    try:
        if action == "upload":
            await acme.upload(acme.actor, where, LAYERS[what[0]])
        elif action == "cancel":
            session = await acme.uploads.open(acme.actor, where, algorithm="sha256")
            await acme.uploads.cancel(await acme.uploads.append(session, half(), None))
        elif action == "push":
            await acme.upload(acme.actor, where, LAYERS[what[0]])
            await push(acme, acme.actor, where, document(config=LAYERS[what[0]]), what[1])
        else:
            await acme.delete.tag(acme.actor, where, Tag.parse(what[0]))
    except (Denied, ManifestUnknown, NameUnknown):
        return


@pytest.fixture
def played(acme):
    loop = asyncio.get_event_loop()

    async def end_uploads(tx):
        await tx.execute("DELETE FROM uploads WHERE committed_at IS NULL")

    async def play(rounds):
        await acme.database.write(end_uploads)  # there is a limit on those that were refused
        quota = Quota(bytes=(await held(acme)).bytes + 900, tags=3)
        await limit(acme, bytes=quota.bytes, tags=quota.tags)
        for actions_at_once in rounds:
            await asyncio.gather(*(act(acme, *action) for action in actions_at_once))
            now = await held(acme)
            assert (now.bytes, now.tags) == await held_by_hand(acme)
            assert now.bytes <= quota.bytes
            assert now.tags <= quota.tags

    return lambda rounds: loop.run_until_complete(play(rounds))


async def test_writes_that_run_twice_count_once(acme):
    where = address("acme/app")
    await limit(acme, bytes=10_000, tags=2)
    acme.database.is_twice = True

    await acme.upload(acme.actor, where, LAYERS[0])
    await push(acme, acme.actor, where, document(config=LAYERS[0]), "v1", "v2")

    now = await held(acme)
    assert (now.bytes, now.tags) == await held_by_hand(acme)


async def test_coming_near_is_logged_once_and_again_after_it_was_left(acme):
    await limit(acme, bytes=1_000)

    async def watched():
        with structlog.testing.capture_logs() as seen:
            await asyncio.gather(acme.quotas.watch(), acme.quotas.watch())
        return [(line["event"], line["organisation"], line["percent"]) for line in seen]

    await acme.upload(acme.actor, address("acme/app"), b"x" * 799)
    assert await watched() == []
    await acme.upload(acme.actor, address("acme/app"), b"y")
    assert await watched() == [("quota.near", "acme", 80)]
    assert await watched() == []
    assert await acme.quotas.count_near() == {"bytes": 1, "repositories": 0, "tags": 0}
    await limit(acme, bytes=2_000)
    assert await watched() == []
    await limit(acme, bytes=1_000)
    assert await watched() == [("quota.near", "acme", 80)]


async def test_a_push_near_the_quota_warns(acme):
    await limit(acme, bytes=1_000)
    where = address("acme/app")
    await acme.upload(acme.actor, where, b"x" * 600)

    pushed = await push(acme, acme.actor, where, document(config=b"x" * 600), "v1")

    assert len(pushed.warnings) == 1
    assert "of 1 kB" in pushed.warnings[0]


def test_a_limit_of_nothing_is_full():
    assert Share("tags", 0, 0).is_near
    assert Share("tags", 0, 0).percent == 100
    assert shares(Held(5, 1), Quota()) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (100 * 10**9, "100 GB"), (-2_000, "-2 kB")],
)
def test_bytes_are_written_for_people(count, text):
    assert readable(count) == text


def test_the_layers_of_these_tests_differ():
    assert len({Digest.of(layer) for layer in LAYERS}) == len(LAYERS)


class Hearing:
    """A database that tells the statements of its writes."""

    def __init__(self, database):
        self._database = database
        self.statements = []

    def __getattr__(self, name):
        return getattr(self._database, name)

    async def write(self, work, *, durable=True):
        return await self._database.write(lambda tx: work(Heard(tx, self)), durable=durable)


class Heard:
    """A transaction of it."""

    def __init__(self, tx, hearing):
        self._tx, self._hearing = tx, hearing

    def __getattr__(self, name):
        call = getattr(self._tx, name)

        def heard(sql, **values):
            self._hearing.statements.append(" ".join(sql.split()))
            return call(sql, **values)

        return heard


async def test_a_push_without_a_quota_asks_nothing_of_usage(acme):
    where = address("acme/app")
    await acme.upload(acme.actor, where, LAYERS[0])
    acme.push._database = hearing = Hearing(acme.database)

    await push(acme, acme.actor, where, document(config=LAYERS[0]), "v1")

    assert hearing.statements
    assert not [each for each in hearing.statements if "usage_points" in each]
    assert len([each for each in hearing.statements if "INTO byte_deltas" in each]) == 2
    await limit(acme, tags=5)
    await push(acme, acme.actor, where, document(config=LAYERS[0]), "v2")
    assert [each for each in hearing.statements if "usage_points" in each]
