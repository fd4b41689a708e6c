"""Calls to upstreams: whose credential, how many at once, when not at all, and what is counted.

Two `Remotes` on one database are two processes.
"""

import asyncio
from functools import partial
from ipaddress import ip_network

import pytest
from prometheus_client import CollectorRegistry

from entrepot.db import upstream_states
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.identity.seal import Seal
from entrepot.model.clock import SECOND
from entrepot.model.errors import (
    UpstreamBusy,
    UpstreamDown,
    UpstreamMissing,
    UpstreamRefused,
)
from entrepot.model.upstreams import BasicAuth
from entrepot.services.access import OPERATOR
from entrepot.services.remotes import READ_AGAIN, Remotes
from entrepot.services.rotation import Rotation, require_key
from entrepot.services.upstream_counts import UpstreamCounts
from entrepot.services.upstream_forms import NewUpstream, UpstreamChanges
from entrepot.services.upstream_gate import FAILURES, PAUSE_SECONDS
from entrepot.services.upstream_trials import Trials
from entrepot.services.upstreams import Upstreams
from entrepot.telemetry.upstreams import UpstreamTally
from entrepot.upstream.outbound import Outbound
from tests.support.upstreams import BasicLogin, Gate, ScriptedUpstream, faults

PATH = "library/app"


class Place:
    """An upstream of acme's, and processes that call it."""

    def __init__(self, world, server):
        self.world = world
        self.server = server
        self.outbound = Outbound(allow=(ip_network("127.0.0.0/8"),))
        self.seal = Seal(KeyRing(SecretKey.of(b"k" * 32)))
        self.metrics = CollectorRegistry()
        self.tally = UpstreamTally(self.metrics)
        self.upstream_id = 0

    def process(self, **options):
        counts = UpstreamCounts(self.world.database, self.world.clock, self.tally)
        return Remotes(
            self.world.database,
            self.world.clock,
            self.outbound,
            self.seal,
            counts,
            **{"concurrency": 16, **options},
        )

    def upstreams(self, remotes):
        return Upstreams(
            self.world.database,
            self.world.clock,
            self.world.access,
            self.seal,
            Trials(self.outbound),
            remotes,
        )

    async def add(self, **fields):
        new = NewUpstream("partner", url=self.server.origin, **fields)
        made = await self.upstreams(self.process()).create(OPERATOR, "acme", new)
        self.upstream_id = made.upstream.id
        self.server.log.clear()

    async def head(self, remotes, tag="v1", **options):
        async with remotes.calling(self.upstream_id, **options) as remote:
            return await remote.head_manifest(PATH, tag)

    async def fail(self, remotes, error, times=1):
        for _ in range(times - 1):
            with pytest.raises(error):
                await self.head(remotes)
        with pytest.raises(error) as caught:
            await self.head(remotes)
        return caught.value

    async def state(self):
        async with self.world.database.read() as tx:
            return await upstream_states.get(tx, self.upstream_id)


@pytest.fixture
async def place(world):
    server = ScriptedUpstream()
    server.put_image(PATH, "v1")
    async with server.serving():
        found = Place(world, server)
        yield found
        await found.outbound.close()


async def test_a_call_goes_out_with_the_credential_and_with_a_new_one_soon(place, world):
    place.server.login = BasicLogin({"ada": "first", "bob": "second"})
    await place.add(auth=BasicAuth("ada", "first"))
    one, two = place.process(), place.process()
    await place.head(one)
    await place.head(two)

    changes = UpstreamChanges(auth=BasicAuth("bob", "second"))
    await place.upstreams(one).update(OPERATOR, place.upstream_id, changes, version=None)
    place.server.login = BasicLogin({"bob": "second"})
    at_once = await place.head(one)
    world.clock.advance(READ_AGAIN)
    soon = await place.head(two)

    assert at_once.digest == soon.digest
    assert at_once.digest is not None


async def test_a_credential_whose_commit_is_not_known_is_stored_once(place, world):
    place.server.login = BasicLogin({"ada": "first", "bob": "second"})
    await place.add(auth=BasicAuth("ada", "first"))
    remotes = place.process()
    changes = UpstreamChanges(auth=BasicAuth("bob", "second"))
    world.database.is_twice = True

    after = (
        await place.upstreams(remotes).update(OPERATOR, place.upstream_id, changes, version=1)
    ).upstream

    assert (after.auth_name, after.version, after.credential_version) == ("bob", 2, 2)


async def test_an_upstream_that_fails_is_left_alone_by_all_and_tried_by_one(place, world):
    await place.add()
    one, two = place.process(), place.process()
    await place.head(two)
    rule = place.server.script(faults.status(500), kind="manifest")
    await place.fail(one, UpstreamDown, FAILURES)
    world.clock.advance(READ_AGAIN)
    place.server.log.clear()

    refused = await place.fail(one, UpstreamDown)
    await place.fail(two, UpstreamDown)
    world.clock.advance(PAUSE_SECONDS * SECOND)
    still = await place.fail(one, UpstreamDown)
    await place.fail(two, UpstreamDown)  # whoever comes while it is tried, or just was

    assert place.server.log.count(kind="manifest") == 1
    assert 0 < refused.values["retry_after"] <= PAUSE_SECONDS
    assert "partner" in refused.message
    assert "500" in still.message
    assert one.has_failed(place.upstream_id)

    place.server.heal(rule)
    world.clock.advance(PAUSE_SECONDS * SECOND)
    await place.head(two)
    world.clock.advance(READ_AGAIN)
    await place.head(one)

    assert (await place.state()).open_until == 0
    assert not two.has_failed(place.upstream_id)


async def test_one_of_many_tries_an_upstream_that_was_down(place, world):
    await place.add()
    remotes = place.process()
    place.server.script(faults.status(500), kind="manifest", times=FAILURES)
    await place.fail(remotes, UpstreamDown, FAILURES)
    world.clock.advance(PAUSE_SECONDS * SECOND)
    gate = Gate()
    place.server.script(faults.held(gate))
    place.server.log.clear()

    answers = await asyncio.gather(
        *(place.head(remotes) for _ in range(10)), _opened(gate), return_exceptions=True
    )

    assert place.server.log.count(kind="manifest") == 1
    assert sum(isinstance(answer, UpstreamDown) for answer in answers) == 9


async def _opened(gate):
    await asyncio.to_thread(gate.wait_until_reached)
    gate.open()


async def test_what_is_not_there_says_that_the_upstream_is(place):
    await place.add()
    remotes = place.process()

    for _ in range(2 * FAILURES):
        with pytest.raises(UpstreamMissing):
            await place.head(remotes, "none")

    assert not remotes.has_failed(place.upstream_id)


async def test_a_limit_on_manifests_lets_blobs_go_on_and_is_known_to_all(place, world):
    await place.add()
    one, two = place.process(), place.process()
    await place.head(two)
    place.server.script(faults.status(429, retry_after=120), kind="manifest", times=1)
    await place.fail(one, UpstreamBusy)
    world.clock.advance(READ_AGAIN)
    place.server.log.clear()

    waits = [(await place.fail(each, UpstreamBusy)).values["retry_after"] for each in (one, two)]
    asked = place.server.log.count(kind="manifest")
    await place.head(one, transfers=True)
    world.clock.advance(120 * SECOND)
    await place.head(two)

    assert all(110 <= wait <= 120 for wait in waits)
    assert asked == 0


async def test_an_upstream_whose_limit_is_spent_is_not_asked_for_a_while(place, world):
    await place.add()
    remotes = place.process()
    place.server.manners.headers = {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "0;w=21600",
    }
    await place.head(remotes)
    place.server.log.clear()

    await place.fail(remotes, UpstreamBusy)
    world.clock.advance(60 * SECOND)
    await place.head(remotes)
    await remotes.flush()

    state = await place.state()
    assert place.server.log.count(kind="manifest") == 1
    assert (state.limit, state.limit_remaining, state.limit_window_seconds) == (100, 0, 21_600)


async def test_what_went_wrong_last_is_kept_and_a_pause_ends_by_itself(place, world):
    await place.add()
    remotes = place.process()
    place.server.script(faults.status(429, retry_after=120), kind="manifest", times=1)
    await place.fail(remotes, UpstreamBusy)
    await remotes.flush()

    during = (await place.upstreams(remotes).get(OPERATOR, place.upstream_id)).state
    world.clock.advance(120 * SECOND)
    await place.head(remotes)
    await remotes.flush()
    after = (await place.upstreams(remotes).get(OPERATOR, place.upstream_id)).state

    assert during.busy_until > 0
    assert "has us wait (429)" in during.reason
    assert (after.busy_until, after.reason) == (0, "")
    assert during.last_failed_at is not None
    assert (after.last_error, after.last_failed_at) == (during.reason, during.last_failed_at)


async def test_calls_queue_for_the_budget_and_transfers_leave_room_for_manifests(place):
    await place.add()
    remotes = place.process(concurrency=4)
    at_once, most = set(), []
    full, done = asyncio.Event(), asyncio.Event()

    async def transfer(number):
        async with remotes.calling(place.upstream_id, transfers=True):
            at_once.add(number)
            most.append(len(at_once))
            if len(at_once) == 3:
                full.set()
            await done.wait()
            at_once.discard(number)

    tasks = [asyncio.create_task(transfer(number)) for number in range(8)]
    await full.wait()
    found = await place.head(remotes)
    done.set()
    await asyncio.gather(*tasks)

    assert found.digest is not None
    assert len(most) == 8
    assert max(most) == 3


async def test_a_queue_that_is_very_long_takes_nobody_more(place):
    await place.add()
    remotes = place.process(concurrency=1)
    done = asyncio.Event()

    async def stay():
        async with remotes.calling(place.upstream_id, transfers=True):
            await done.wait()

    await place.head(remotes)
    tasks = [asyncio.create_task(stay()) for _ in range(1_001)]
    await asyncio.sleep(0)
    error = await place.fail(remotes, UpstreamBusy)
    done.set()
    await asyncio.gather(*tasks)

    assert error.values["retry_after"] > 0
    assert (await place.head(remotes)).digest is not None


async def test_a_caller_who_leaves_gives_the_budget_back(place):
    await place.add()
    remotes = place.process(concurrency=1)

    inside = asyncio.Event()

    async def stay():
        async with remotes.calling(place.upstream_id):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await inside.wait()
    task.cancel()

    assert (await place.head(remotes)).digest is not None


async def test_what_happened_is_counted_once_for_all_processes(place):
    await place.add()
    one, two = place.process(), place.process()
    for remotes in (one, two):
        await place.head(remotes)
        remotes.note_hit(place.upstream_id)
        remotes.note_miss(place.upstream_id)
        remotes.note_coalesced(place.upstream_id)
        remotes.note_stale(place.upstream_id)
        remotes.note_bytes(place.upstream_id, 1_000)
    place.server.script(faults.status(500), kind="manifest", times=1)
    await place.fail(one, UpstreamDown)

    await one.flush()
    await two.flush()
    await one.flush()

    state = await place.state()
    assert (state.requests, state.errors, state.bytes) == (3, 1, 2_000)
    assert (state.hits, state.misses, state.coalesced, state.stale) == (2, 2, 2, 2)
    labels = {"preset": "custom"}
    read = place.metrics.get_sample_value
    assert read("entrepot_upstream_requests_total", labels) == 3
    assert read("entrepot_upstream_bytes_total", labels) == 2_000
    assert read("entrepot_upstream_errors_total", {**labels, "reason": "down"}) == 1


async def test_an_upstream_that_is_gone_is_no_missing_content(place, world):
    await place.add()
    remotes = place.process()
    await place.head(remotes)
    await place.upstreams(remotes).delete(OPERATOR, place.upstream_id, version=None)

    with pytest.raises(UpstreamRefused, match="removed"):
        await place.head(remotes)


async def test_a_credential_that_cannot_be_opened_says_what_to_do(place, world):
    place.server.login = BasicLogin({"ada": "first"})
    await place.add(auth=BasicAuth("ada", "first"))
    place.seal = Seal(KeyRing(SecretKey.of(b"other" * 8)))

    with pytest.raises(UpstreamRefused, match="entrepot upstream rotate partner"):
        await place.head(place.process())


async def test_a_credential_is_sealed_anew_for_another_key_of_the_server(place, world):
    old, new = SecretKey.of(b"k" * 32), SecretKey.of(b"n" * 32)
    place.server.login = BasicLogin({"ada": "first"})
    await require_key(world.database, KeyRing(old))
    await place.add(auth=BasicAuth("ada", "first"))

    done = await Rotation(world.database, KeyRing(new, old)).finish(lambda *_: None)
    place.seal = Seal(KeyRing(new))

    assert done.resealed == 1
    assert (await place.head(place.process())).digest is not None


async def test_a_credential_that_is_copied_into_another_row_does_not_open_there(place, world):
    place.server.login = BasicLogin({"ada": "first", "eve": "hers"})
    await place.add(auth=BasicAuth("ada", "first"))
    stolen = place.upstream_id
    upstreams = place.upstreams(place.process())
    new = NewUpstream("copy", url=place.server.origin, auth=BasicAuth("eve", "hers"))
    for organisation in ("acme", "globex"):
        made = await upstreams.create(OPERATOR, organisation, new)
        place.upstream_id = made.upstream.id
        await world.database.write(partial(_copy, stolen, made.upstream.id))

        with pytest.raises(UpstreamRefused, match="cannot be opened"):
            await place.head(place.process())


async def _copy(source, target, tx):
    await tx.execute(
        """
        UPDATE upstreams
           SET sealed = (SELECT other.sealed FROM upstreams AS other WHERE other.id = :source)
         WHERE id = :target
        """,
        source=source,
        target=target,
    )
