"""Policies, previews, runs and sweeps, on images that were pushed."""

import pytest

from entrepot.db import organisations as organisation_rows
from entrepot.db import repositories
from entrepot.model.clock import DAY, HOUR
from entrepot.model.errors import Denied, NotFound, Stale
from entrepot.model.retention import Retention
from entrepot.services.access import OPERATOR
from entrepot.services.organisations import Organisations
from entrepot.services.retention import RetentionPolicies
from entrepot.services.retention_plan import RetentionPlan
from entrepot.services.retention_run import RetentionRun
from tests.services.collecting import WINDOW, Yard

OTHER = Retention(days=30)


class Meddler(RetentionPlan):
    """A plan behind whose back something happens before each batch."""

    meddle = None

    async def going(self, *args, **values):
        async for going in super().going(*args, **values):
            if self.meddle is not None and (going.tags or going.untagged):
                meddle, self.meddle = self.meddle, None
                await meddle()
            yield going


class Place:
    """A registry with retention, and short words."""

    def __init__(self, world):
        self.world = world
        self.yard = Yard(world)
        common = (world.database, world.clock, world.access)
        self.plan = Meddler(world.database, Retention(days=7), restore=WINDOW)
        self.policies = RetentionPolicies(*common, self.plan)
        self.runs = RetentionRun(*common, self.plan, restore=WINDOW, every=HOUR)

    async def id_of(self, path):
        return (await self.yard.repository(path)).id

    async def run(self, path):
        return await self.runs.run(OPERATOR, await self.id_of(path))

    async def set(self, path, policy, version=None):
        return await self.policies.set(OPERATOR, await self.id_of(path), policy, version=version)

    async def preview(self, path, proposed=None, **values):
        return await self.policies.preview(OPERATOR, await self.id_of(path), proposed, **values)

    async def tags(self, path):
        rows = await self.world.rows(
            "SELECT name FROM tags WHERE repository_id = :id", id=await self.id_of(path)
        )
        return {str(row[0]) for row in rows}


@pytest.fixture
def place(world):
    return Place(world)


async def test_a_week_after_its_last_push_a_tag_goes_and_its_neighbour_stays(place):
    await place.yard.image("acme/app", "old", layers=[b"shared", b"old"])
    await place.yard.image("acme/app", "again", layers=[b"shared", b"again"])
    place.world.clock.advance(5 * DAY)
    await place.yard.image("acme/app", "again", layers=[b"shared", b"again"])
    place.world.clock.advance(3 * DAY)

    ran = await place.run("acme/app")
    await place.yard.collect_all()

    assert (ran.tags, ran.is_done) == (1, True)
    assert await place.tags("acme/app") == {"again"}


async def test_what_usage_falls_by_is_what_the_preview_said(place):
    image = await place.yard.image("acme/app", layers=[b"x" * 5_000, b"shared"])
    await place.yard.image("acme/app", layers=[b"y" * 300], note="signature", subject=image)
    await place.yard.index("acme/app", [image], "multi")
    await place.yard.image("acme/other", "kept", layers=[b"shared"])
    await place.set("acme/other", Retention(never=True))
    place.world.clock.advance(8 * DAY)
    before = (await place.world.bytes_of())["acme", ""]

    shown = await place.preview("acme/app")
    await place.run("acme/app")
    await place.yard.collect_all()

    assert (shown.proposed.tags, shown.proposed.is_exact) == (1, True)
    after = (await place.world.bytes_of())["acme", ""]
    assert before - after == shown.proposed.freed_bytes > 5_300
    assert shown.proposed == shown.present


async def test_a_preview_says_the_reason_of_each_and_how_two_policies_differ(place):
    await place.yard.image("acme/app", "v1", layers=[b"1"])
    place.world.clock.advance(9 * DAY)
    await place.yard.image("acme/app", "v2", layers=[b"2"])
    untagged = await place.yard.image("acme/app", layers=[b"3"])

    shown = await place.preview("acme/app", Retention(never=True))
    rest = await place.preview("acme/app", Retention(tags=1), after="", limit=1)

    assert [(line.name, line.present.reason, line.proposed.reason) for line in shown.lines] == [
        ("v1", "last pushed 9 days ago", "nothing is deleted here"),
        ("v2", "pushed less than an hour ago", "nothing is deleted here"),
        (None, "kept by protected", "kept by protected"),
    ]
    assert shown.lines[2].digest == untagged
    assert (shown.proposed.tags, shown.present.tags, shown.present.only) == (0, 1, 1)
    assert rest.lines[0].proposed.reason == "beyond the newest 1"
    assert rest.after is not None
    assert (await place.preview("acme/app", after=rest.after)).proposed is None


async def test_a_policy_holds_as_a_whole_of_the_nearest_that_says_one(place):
    await place.yard.image("acme/app", "v1")
    repository_id = await place.id_of("acme/app")

    by_server = await place.policies.policy(OPERATOR, repository_id)
    keeping = Retention(tags=5, keep=("v*",))
    organisations = Organisations(place.world.database, place.world.clock, place.world.access)
    await organisations.update(OPERATOR, "acme", {"retention": keeping}, version=None)
    by_organisation = await place.policies.policy(OPERATOR, repository_id)
    own = await place.set("acme/app", OTHER, version=by_organisation.version)
    none = await place.set("acme/app", None)

    assert (by_server.effective, by_server.source) == (Retention(days=7), "server")
    assert (by_organisation.effective, by_organisation.source) == (keeping, "organisation")
    assert (own.effective, own.source, own.own) == (OTHER, "repository", OTHER)
    assert (none.source, none.version) == ("organisation", own.version + 1)
    rows = await place.world.rows(
        "SELECT object_name, details FROM audit_events WHERE action = 'retention.changed'"
        " ORDER BY id"
    )
    assert [row[0] for row in rows] == ["app", "app"]
    with pytest.raises(Stale):
        await place.set("acme/app", OTHER, version=by_organisation.version)


async def test_only_who_manages_a_repository_tries_changes_or_runs_retention(place):
    await place.yard.image("acme/app", "v1")
    repository_id = await place.id_of("acme/app")
    token = await place.world.token("org", "acme")
    stranger = await place.world.token("org", "globex")

    for actor, error in ((token, Denied), (stranger, NotFound)):
        with pytest.raises(error):
            await place.policies.set(actor, repository_id, OTHER, version=None)
        with pytest.raises(error):
            await place.runs.run(actor, repository_id)
        with pytest.raises(error):
            await place.policies.preview(actor, repository_id)
    assert (await place.policies.policy(token, repository_id)).source == "server"


async def test_a_tag_that_is_pushed_while_it_is_about_to_go_stays(place):
    await place.yard.image("acme/app", "old", layers=[b"old"])
    await place.yard.image("acme/app", "older", layers=[b"older"])
    place.world.clock.advance(8 * DAY)
    place.plan.meddle = lambda: place.yard.image("acme/app", "old", layers=[b"old"])

    ran = await place.run("acme/app")

    assert ran.tags == 1
    assert await place.tags("acme/app") == {"old"}


async def test_a_policy_that_changes_meanwhile_counts(place):
    await place.yard.image("acme/app", "old")
    place.world.clock.advance(8 * DAY)
    place.plan.meddle = lambda: place.set("acme/app", OTHER)

    ran = await place.run("acme/app")

    assert (ran.tags, ran.is_done) == (0, False)
    assert await place.tags("acme/app") == {"old"}


async def test_nothing_goes_of_what_is_read_only(place):
    await place.yard.image("acme/app", "old")
    place.world.clock.advance(8 * DAY)

    async def work(tx):
        found = await organisation_rows.find(tx, "acme")
        assert found is not None
        await tx.execute("UPDATE organisations SET is_read_only = 1 WHERE id = :id", id=found.id)

    await place.world.database.write(work)

    assert await place.runs.sweep() == 0
    with pytest.raises(Denied):
        await place.run("acme/app")


async def test_a_sweep_looks_at_all_that_is_due_and_again_in_an_hour(place):
    for path in ("acme/a", "acme/b", "globex/a", "main/a"):
        for number in range(3):
            await place.yard.image(path, f"v{number}", layers=[f"{number}".encode()])
    place.world.clock.advance(8 * DAY)

    assert await place.runs.sweep() == 12
    await place.yard.image("acme/a", "new")
    await place.set("acme/a", Retention(tags=1, keep=("new",)))
    await place.yard.image("acme/a", "first", layers=[b"1"])
    await place.yard.image("acme/a", "second", layers=[b"2"])
    assert await place.runs.sweep() == 0
    place.world.clock.advance(HOUR)
    assert await place.runs.sweep() == 1
    assert await place.tags("acme/a") == {"new", "second"}


async def test_a_sweep_that_runs_again_after_a_crash_does_no_harm(place):
    await place.yard.image("acme/app", "old")
    place.world.clock.advance(8 * DAY)
    place.world.database.is_twice = True

    assert await place.runs.sweep() in {0, 1}  # the first of two tells

    place.world.database.is_twice = False
    place.world.clock.advance(2 * HOUR)
    await place.runs.sweep()
    assert await place.tags("acme/app") == set()
    place.yard.check()


async def test_what_loses_its_last_tag_waits_and_what_a_tag_leaves_does_not(place):
    moved = await place.yard.image("acme/app", "v1", layers=[b"1"])
    tagged = await place.yard.image("acme/app", "v1", "v2", layers=[b"2"])

    await place.yard.delete_tag("acme/app", "v1")
    assert await _orphans(place) == set()
    await place.yard.delete_tag("acme/app", "v2")
    assert await _orphans(place) == {tagged}
    await place.yard.image("acme/app", layers=[b"2"])

    assert await _orphans(place) == set()
    assert moved in await place.yard.manifests()
    rows = await place.world.rows(
        "SELECT name, version, ended_by, ended_token_id FROM tag_history ORDER BY name, version"
    )
    assert rows == [("v1", 1, "push", 0), ("v1", 2, "delete", 0), ("v2", 1, "delete", 0)]


async def _orphans(place):
    rows = await place.world.rows("SELECT digest FROM manifests WHERE orphaned_at IS NOT NULL")
    return {str(row[0]) for row in rows}


async def test_a_run_gets_past_any_number_of_tags_that_stay(place, monkeypatch):
    monkeypatch.setattr("entrepot.services.retention_plan._PAGE", 1)
    for number in range(30):
        await place.yard.image("acme/app", f"keep-{number}")
    await place.yard.image("acme/app", "old")
    await place.set("acme/app", Retention(days=7, keep=("keep-*",)))
    place.world.clock.advance(8 * DAY)

    ran = await place.run("acme/app")

    assert (ran.tags, ran.is_done) == (1, True)


async def test_a_run_that_takes_long_leaves_the_rest_to_a_sweep(place, monkeypatch):
    monkeypatch.setattr("entrepot.services.retention_plan.BATCH", 2)
    monkeypatch.setattr("entrepot.services.retention_run._PATIENCE", 10)
    for number in range(7):
        await place.yard.image("acme/app", f"v{number}")
    assert await place.runs.sweep() == 0  # due in an hour from now
    place.world.clock.advance(8 * DAY)

    ran = await place.run("acme/app")

    assert not ran.is_done
    assert ran.tags < 7
    assert await place.runs.sweep() == 7 - ran.tags


async def test_a_repository_with_much_to_do_lets_others_of_its_organisation_go_first(
    place, monkeypatch
):
    monkeypatch.setattr("entrepot.services.retention_plan.BATCH", 1)
    monkeypatch.setattr("entrepot.services.retention_run._IN_A_ROW", 2)
    for number in range(5):
        await place.yard.image("acme/large", f"v{number}", note=f"{number}")
    await place.yard.image("acme/small", "v1")
    for due, path in enumerate(("acme/large", "acme/small")):
        await place.yard.execute(
            "UPDATE repositories SET retention_due_at = :due WHERE id = :id",
            due=due,
            id=await place.id_of(path),
        )
    place.world.clock.advance(8 * DAY)

    removed = await place.runs.sweep()

    assert removed == 6
    ran = await place.world.rows(
        "SELECT object_name FROM audit_events WHERE action = 'retention.ran' ORDER BY id"
    )
    assert [row[0] for row in ran] == ["large"] * 2 + ["small"] + ["large"] * 3


async def test_an_image_with_more_referrers_than_are_looked_at_goes_with_all_of_them(
    place, monkeypatch
):
    monkeypatch.setattr("entrepot.db.reachability._BUDGET", 3)
    image = await place.yard.image("acme/app", "v1")
    for number in range(8):
        await place.yard.image("acme/app", note=f"{number}", subject=image)
    place.world.clock.advance(8 * DAY)

    await place.run("acme/app")
    await place.yard.collect_all()

    assert await place.yard.manifests() == set()


async def test_two_manifests_that_are_tagged_as_belonging_to_each_other_go(place):
    one = await place.yard.image("acme/app", note="one")
    other = await place.yard.image("acme/app", one.replace(":", "-"), note="other")
    await place.yard.image("acme/app", other.replace(":", "-") + ".sig", note="one")
    place.world.clock.advance(8 * DAY)

    ran = await place.run("acme/app")
    await place.yard.collect_all()

    assert (ran.tags, ran.untagged) == (0, 2)
    assert await place.yard.manifests() == set()


async def test_what_belongs_to_an_image_that_stays_is_kept_with_it(place):
    image = await place.yard.image("acme/app", "v1")
    signature = await place.yard.image("acme/app", image.replace(":", "-") + ".sig", note="s")
    await place.set("acme/app", Retention(tags=1))
    place.world.clock.advance(30 * DAY)

    await place.run("acme/app")
    await place.yard.collect_all()

    assert await place.yard.manifests() == {image, signature}


async def test_what_goes_anyway_is_none_of_the_newest_tags(place):
    image = await place.yard.image("acme/app", "first")
    for number, tag in enumerate(("second", image.replace(":", "-"), f"sha512-{'a' * 64}.sig")):
        place.world.clock.advance(HOUR)
        await place.yard.image("acme/app", tag, note=f"{number}")
    place.world.clock.advance(HOUR)
    await place.yard.image("acme/app", f"sha512-{'x' * 64}", note="only looks so")
    await place.set("acme/app", Retention(tags=2))

    ran = await place.run("acme/app")

    assert ran.tags == 1
    assert "first" not in await place.tags("acme/app")


async def test_the_mark_of_a_repository_that_is_gone_is_no_work(place):
    await place.yard.image("acme/app", "old")
    repository = await place.yard.repository("acme/app")
    place.world.clock.advance(8 * DAY)
    await place.world.database.write(
        lambda tx: repositories.delete(tx, repository.id, version=1, now=place.world.clock.now())
    )

    assert await place.runs.sweep() == 0
