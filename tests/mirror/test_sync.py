"""Tag sync: what it brings, moves and removes, and what it tells of that."""

from contextlib import ExitStack

import pytest

from tests.mirror.stand import stood
from tests.mirror.syncing import mirror_of
from tests.support.eventually import eventually
from tests.support.postgres import new_database
from tests.support.upstreams import Gate, faults

pytestmark = pytest.mark.slow  # each sync is begun by a job that comes every second

PATH = "library/app"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stand(request, tmp_path_factory):
    with ExitStack() as stack:
        url = ""
        if request.param == "postgres":
            url = stack.enter_context(new_database(request.getfixturevalue("postgres_server")))
        folder = tmp_path_factory.mktemp("stand")
        yield stack.enter_context(stood(folder, database_url=url))


def put(upstream, *tags):
    return {tag: upstream.put_image(PATH, tag) for tag in tags}


def test_the_first_sync_begins_by_itself_and_brings_tags_and_manifests_without_blobs(
    stand, upstream
):
    images = put(upstream, "v1", "v2", "latest")
    upstream.put_index(PATH, "multi")
    mirror = mirror_of(stand, upstream, sync="all")

    run = mirror.first()

    assert (run["cause"], run["tags"], run["done"], run["changed"]) == ("schedule", 4, 4, 4)
    assert (run["failed"], run["removed"], run["error"], run["failures"]) == (0, 0, None, [])
    assert upstream.log.count(kind="blob") == 0
    assert mirror.facts()["upstream"]["last_synced_at"] == run["ended_at"]
    upstream.stop()
    assert mirror.cache.manifest("v1").body == images["v1"].body
    index = upstream.repository(PATH).manifests[upstream.repository(PATH).tags["multi"]][1]
    assert mirror.cache.manifest("multi").body == index
    for digest in upstream.repository(PATH).manifests:
        assert mirror.cache.manifest(digest).status == 200
    assert b'"v2"' in mirror.cache.get("tags/list").body


def test_moved_tags_move_deleted_tags_go_and_the_rest_costs_a_head(stand, upstream):
    images = put(upstream, "same", "moved", "gone")
    mirror = mirror_of(stand, upstream, sync="all")
    mirror.first()
    moved = upstream.put_image(PATH, "moved")
    del upstream.repository(PATH).tags["gone"]
    upstream.log.clear()

    run = mirror.sync()

    assert (run["cause"], run["tags"], run["changed"], run["removed"]) == ("request", 2, 1, 1)
    assert mirror.tags() == {"same": images["same"].digest, "moved": moved.digest}
    assert mirror.cache.manifest("gone").status == 404
    assert upstream.log.count(kind="manifest", method="HEAD", reference="same") == 1
    assert upstream.log.count(kind="manifest", method="GET", reference="same") == 0
    assert upstream.log.count(kind="manifest", method="GET") == 1


def test_deleted_tags_stay_where_they_are_kept(stand, upstream):
    images = put(upstream, "v1", "v2")
    mirror = mirror_of(stand, upstream, sync="all", keeps_deleted=True)
    mirror.first()
    del upstream.repository(PATH).tags["v1"]

    run = mirror.sync()

    assert (run["removed"], run["error"]) == (0, None)
    assert mirror.tags()["v1"] == images["v1"].digest
    assert mirror.cache.manifest("v1").body == images["v1"].body


@pytest.mark.parametrize(
    ("sync", "brought"), [("v1.*", {"v1.0", "v1.10"}), ("newest:2", {"v2.0", "v1.10"})]
)
def test_a_filter_takes_some_of_the_tags(stand, upstream, sync, brought):
    put(upstream, "v1.0", "v1.10", "v2.0", "other")
    mirror = mirror_of(stand, upstream, sync=sync)

    mirror.first()

    assert set(mirror.tags()) == brought
    assert {entry.reference for entry in upstream.log.of(kind="manifest")} == brought


def test_another_filter_is_synced_at_once_and_what_it_does_not_want_goes(stand, upstream):
    put(upstream, "v1", "v2", "keep")
    mirror = mirror_of(stand, upstream, sync="all")
    mirror.first()
    answer = stand.admin.patch(f"/repositories/{mirror.id}", {"immutable_tags": ["keep"]})
    assert answer.status_code == 200, answer.text

    mirror.set(sync="v2")

    eventually(lambda: len(mirror.runs()) == 2, missing=mirror.runs)
    assert mirror.end_of(mirror.runs()[0])["removed"] == 1
    assert set(mirror.tags()) == {"v2", "keep"}


def test_tags_that_fail_stop_no_other_and_the_last_success_stays_known(stand, upstream):
    put(upstream, *(f"v{number}" for number in range(5)))
    mirror = mirror_of(stand, upstream, sync="all")
    synced_at = mirror.first()["ended_at"]
    moved = upstream.put_image(PATH, "v4")
    upstream.script(faults.status(404), kind="manifest", reference="v1")
    upstream.script(faults.html, kind="manifest", reference="v2")

    failed = mirror.sync()

    assert (failed["tags"], failed["done"], failed["failed"], failed["changed"]) == (5, 5, 2, 1)
    assert failed["error"].startswith("2 of 5 tags failed: v")
    assert "v1 (404)" in failed["error"]
    assert "v2 (broken)" in failed["error"]
    assert {failure["tag"]: failure["reason"] for failure in failed["failures"]} == {
        "v1": "404",
        "v2": "broken",
    }
    assert mirror.tags()["v4"] == moved.digest
    shown = mirror.facts()["upstream"]
    assert shown["last_synced_at"] == synced_at
    assert shown["last_sync_error"] == failed["error"]
    upstream.heal()
    healed = mirror.sync()
    assert healed["error"] is None
    shown = mirror.facts()["upstream"]
    assert (shown["last_synced_at"], shown["last_sync_error"]) == (healed["ended_at"], None)


def test_a_list_that_fails_changes_nothing(stand, upstream):
    images = put(upstream, "v1", "v2")
    mirror = mirror_of(stand, upstream, sync="all")
    mirror.first()
    upstream.script(faults.status(500), kind="tags")

    run = mirror.sync()

    assert (run["tags"], run["removed"]) == (0, 0)
    assert mirror.cache.upstream["name"] in run["error"]
    assert mirror.tags() == {tag: image.digest for tag, image in images.items()}


def test_a_list_without_a_tag_that_is_there_removes_nothing(stand, upstream):
    images = put(upstream, "v1", "v2")
    mirror = mirror_of(stand, upstream, sync="all")
    mirror.first()
    upstream.script(faults.body(b'{"name": "library/app", "tags": null}'), kind="tags")

    run = mirror.sync()

    assert run["removed"] == 0
    assert mirror.tags() == {tag: image.digest for tag, image in images.items()}


def test_a_child_that_the_upstream_lacks_stops_nothing(stand, upstream):
    index = upstream.put_index(PATH, "multi")
    content = upstream.repository(PATH)
    lost = next(digest for digest in content.manifests if digest != index.digest)
    del content.manifests[lost]
    mirror = mirror_of(stand, upstream, sync="all")

    run = mirror.first()

    assert (run["error"], run["changed"]) == (None, 1)
    assert mirror.cache.manifest("multi").body == index.body


def test_there_is_one_run_at_a_time_and_it_tells_how_far_it_came(stand, upstream):
    put(upstream, *(f"v{number}" for number in range(8)))
    mirror = mirror_of(stand, upstream)
    gate = Gate()
    upstream.script(faults.held(gate, 0), kind="manifest", reference="v3")

    run = mirror.start()
    gate.wait_until_reached()
    again = mirror.start()

    def going_on():
        return next(each for each in mirror.runs() if each["id"] == run["id"])

    assert again["id"] == run["id"]
    eventually(lambda: going_on()["done"] == 7, missing=going_on)
    assert (going_on()["tags"], going_on()["ended_at"]) == (8, None)
    gate.open()
    assert mirror.end_of(run)["done"] == 8
    assert len(mirror.runs()) == 1


def test_a_pushed_tag_is_neither_moved_nor_removed(stand, upstream):
    put(upstream, "v1", "v2")
    mirror = mirror_of(stand, upstream, sync="all", accepts_push=True, may_shadow=True)
    mirror.first()
    ours = stand.pusher.push_image(mirror.cache.name, "v1")
    own = stand.pusher.push_image(mirror.cache.name, "own")

    run = mirror.sync()

    assert (run["tags"], run["removed"], run["error"]) == (1, 0, None)
    assert (mirror.tags()["v1"], mirror.tags()["own"]) == (ours, own)


def test_blobs_of_tags_that_are_kept_warm_are_here_before_anybody_asks(stand, upstream):
    warm = upstream.put_index(PATH, "warm", platforms=("amd64", "arm64"))
    cold = upstream.put_image(PATH, "cold")
    mirror = mirror_of(
        stand, upstream, sync="all", warm_tags=["wa*"], warm_platforms=["linux/amd64"]
    )

    run = mirror.first()

    assert (run["error"], run["blobs"]) == (None, 2)
    fetched = {entry.reference for entry in upstream.log.of(kind="blob", method="GET")}
    assert len(fetched) == 2
    assert not fetched & {cold.config, *cold.layers}
    assert str(warm.digest) in mirror.tags().values()
    upstream.log.clear()
    assert mirror.sync()["blobs"] == 0
    assert upstream.log.count(kind="blob") == 0
    upstream.stop()
    for digest in fetched:
        assert mirror.cache.blob(digest).status == 200


def test_a_blob_of_a_warm_tag_that_cannot_be_had_is_a_failure_of_the_tag(stand, upstream):
    image = upstream.put_image(PATH, "warm")
    put(upstream, "other")
    upstream.script(faults.wrong_bytes, kind="blob", reference=image.layers[0])
    mirror = mirror_of(stand, upstream, sync="all", warm_tags=["warm"])

    run = mirror.first()

    assert run["error"] == "1 of 2 tags failed: warm (broken)"
    assert set(mirror.tags()) == {"warm", "other"}


def test_what_comes_from_no_upstream_cannot_be_synced(stand):
    made = stand.admin.made("/organisations/main/repositories", {"path": "hosted/app"})

    answer = stand.admin.post(f"/repositories/{made['id']}/sync")

    assert answer.status_code == 422
    assert "no upstream" in answer.json()["detail"]
    assert stand.admin.items(f"/repositories/{made['id']}/sync-runs") == []


def test_who_asked_for_a_sync_is_in_the_log(stand, upstream):
    put(upstream, "v1")
    mirror = mirror_of(stand, upstream)

    run = mirror.sync()

    events = stand.admin.items("/organisations/main/audit?action=repository.sync-requested")
    assert (events[0]["object"]["name"], events[0]["details"]) == (
        mirror.cache.name,
        {"run": run["id"]},
    )


def test_a_repository_that_is_deleted_ends_its_sync(stand, upstream):
    put(upstream, *(f"v{number}" for number in range(8)))
    mirror = mirror_of(stand, upstream)
    gate = Gate()
    upstream.script(faults.held(gate, 0), kind="manifest")
    mirror.start()
    gate.wait_until_reached()

    assert stand.admin.delete(f"/repositories/{mirror.id}").status_code == 204
    gate.open()

    def open_runs():
        return stand.registry.rows("SELECT id FROM sync_runs WHERE ended_at IS NULL")

    eventually(lambda: not open_runs(), missing=open_runs)


def test_an_upstream_that_has_us_wait_a_moment_is_waited_for(stand, upstream):
    put(upstream, "v1", "v2")
    mirror = mirror_of(stand, upstream)
    upstream.script(faults.status(429, retry_after=1), kind="manifest", times=1)

    run = mirror.sync()

    assert (run["error"], run["changed"]) == (None, 2)


def test_an_upstream_that_has_us_wait_for_hours_ends_the_run_without_more_requests(stand, upstream):
    put(upstream, *(f"v{number}" for number in range(20)))
    mirror = mirror_of(stand, upstream)
    upstream.script(faults.status(429, retry_after=7_200), kind="manifest")

    run = mirror.sync()

    assert run["failed"] == 20
    assert run["error"].startswith("20 of 20 tags failed: v")
    assert run["error"].endswith(" and 10 more")
    assert upstream.log.count(kind="manifest") <= 8


def test_new_tags_come_before_those_that_are_here(stand, upstream):
    put(upstream, *(f"v{number}" for number in range(20)))
    mirror = mirror_of(stand, upstream, sync="all")
    mirror.first()
    put(upstream, "an-old-name")
    upstream.log.clear()

    mirror.sync()

    asked = [entry.reference for entry in upstream.log.of(kind="manifest")]
    assert "an-old-name" in asked[:8]  # of 21; some are on their way at once


def test_a_choice_that_is_made_during_a_sync_is_synced_behind_it(stand, upstream):
    put(upstream, "v1", "v2")
    mirror = mirror_of(stand, upstream, sync="v1")
    mirror.first()
    gate = Gate()
    upstream.script(faults.held(gate), kind="tags")
    run = mirror.start()
    gate.wait_until_reached()

    mirror.set(sync="all")
    gate.open()

    eventually(lambda: len(mirror.runs()) == 3, missing=mirror.runs)
    assert mirror.end_of(mirror.runs()[0])["tags"] == 2
    assert mirror.end_of(run)["ended_at"] is not None
