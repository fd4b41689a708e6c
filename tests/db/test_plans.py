"""What SQLite does for statements that meet large tables."""

import asyncio
import sqlite3
from contextlib import closing, suppress

import pytest

from entrepot.db import (
    audit,
    blobs,
    eviction,
    fsck,
    invitations,
    lookups,
    manifests,
    mirrored,
    orphans,
    projects,
    reachability,
    repositories,
    retention,
    retention_turns,
    scrub,
    segments,
    sync_runs,
    tag_history,
    tag_patterns,
    tags,
    tokens,
    tombstones,
    unused,
    usage,
)
from entrepot.db.migrate import migrate
from entrepot.model.clock import DAY, SystemClock
from entrepot.model.usage import Period


class Explaining:
    """A transaction that runs nothing and keeps how each statement would be run."""

    def __init__(self, connection):
        self._connection = connection
        self.plans = []

    async def fetch_all(self, sql, **values):
        rows = self._connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
        self.plans.append([row[3] for row in rows])
        return []

    async def fetch_one(self, sql, **values):
        await self.fetch_all(sql, **values)

    async def execute(self, sql, **values):
        await self.fetch_all(sql, **values)
        return 0


@pytest.fixture
def explaining(tmp_path):
    asyncio.run(migrate(f"sqlite:///{tmp_path}/entrepot.db"))
    with closing(sqlite3.connect(tmp_path / "entrepot.db")) as connection:
        yield Explaining(connection)


def test_holders_of_a_blob_are_found_from_the_blob(explaining):
    asyncio.run(blobs.holders(explaining, 1, "sha256:0", limit=16))

    assert explaining.plans == [
        [
            "SEARCH l USING INDEX blob_links_of_blob (digest=?)",
            "SEARCH r USING INDEX sqlite_autoindex_repositories_1 (id=?)",
            "SEARCH o USING INDEX sqlite_autoindex_organisations_1 (id=?)",
            "SCALAR SUBQUERY 1",
            "SEARCH s USING COVERING INDEX sqlite_autoindex_installation_1 (name=?)",
        ]
    ]


def test_whether_a_registry_gave_a_blob_is_found_from_the_blob(explaining):
    asyncio.run(blobs.find_from(explaining, 1, "sha256:0"))

    (plan,) = explaining.plans
    assert "SEARCH l USING COVERING INDEX blob_links_of_blob (digest=?)" in plan
    assert not any(step.startswith("SCAN") for step in plan)


def test_the_end_of_a_tag_does_not_walk_its_history(explaining):
    asyncio.run(tags._end(explaining, 1, "v1", by="push", token_id=1, now=1))

    assert explaining.plans == [
        ["SEARCH tag_history USING INDEX tag_history_open (repository_id=? AND name=?)"]
    ]


def test_what_went_with_a_manifest_is_found_by_its_time(explaining):
    asyncio.run(tag_history.find_ended_with(explaining, 1, "sha256:0", at=1))

    ((step,),) = explaining.plans
    assert step.startswith("SEARCH tag_history USING INDEX tag_history_by_end (repository_id=? AND")


def test_what_a_policy_frees_is_found_from_the_manifests_that_go(explaining):
    asyncio.run(retention.count_freed(explaining, 1, 1, ["sha256:0"]))

    found = " ".join(step for plan in explaining.plans for step in plan)
    assert "SEARCH r USING PRIMARY KEY (repository_id=? AND manifest=?)" in found
    assert found.count("SEARCH c USING PRIMARY KEY (organisation_id=? AND digest=?)") == 2
    assert "SCAN b" not in found


def test_a_part_of_the_audit_log_is_found_by_its_time(explaining):
    since = SystemClock().now() - DAY

    for organisation_id in (1, None):
        page = audit.page(
            explaining,
            organisation_id,
            action=None,
            actor=None,
            object_name=None,
            since=since,
            until=since + DAY,
            before=1 << 62,
            limit=100,
        )
        asyncio.run(page)

    index = "SEARCH audit_events USING INDEX audit_events_of_organisation"
    assert explaining.plans == [[f"{index} (organisation_id=? AND id>? AND id<?)"]] * 2


def test_what_is_counted_against_a_limit_is_found_by_an_index(explaining):
    asyncio.run(tokens.count_of_organisation(explaining, 1, limit=10, now=1))
    asyncio.run(tokens.count_of_user(explaining, 1, limit=10, now=1))
    asyncio.run(invitations.count_open(explaining, 1, limit=10, now=1))
    asyncio.run(projects.count(explaining, 1, limit=10))

    indexes = [
        "tokens_good_of_organisation (organisation_id=? AND <expr>>?)",
        "tokens_good_of_user (user_id=? AND <expr>>?)",
        "invitations_open (organisation_id=? AND expires_at>?)",
        "projects_by_organisation (organisation_id=?)",
    ]
    for plan, index in zip(explaining.plans, indexes, strict=True):
        assert any(index in step for step in plan), plan


WALKS = {
    "tags": lambda tx: tags.find_all(tx, 1, prefix="v", after="", limit=100),
    "a tag": lambda tx: tags.find(tx, 1, "v1"),
    "tags of a manifest": lambda tx: tags.names_of(tx, 1, "sha256:0", limit=100),
    "tags that fit": lambda tx: tag_patterns.find_match(tx, 1, "v*-x"),
    "the end of all tags": lambda tx: tags.end_all(tx, 1, token_id=1, now=1),
    "manifests": lambda tx: manifests.find_all(tx, 1, after="", limit=100),
    "a manifest": lambda tx: manifests.get(tx, 1, "sha256:0"),
    "repositories": lambda tx: repositories.find_all(tx, 1, after="", limit=100),
    "repositories by part": lambda tx: repositories.find_all(
        tx, 1, part="app", after="", limit=100
    ),
    "linked repositories": lambda tx: repositories.find_all(
        tx, 1, project_id=1, after="", limit=100
    ),
    "a repository": lambda tx: repositories.find_by_id(tx, 1),
    "projects": lambda tx: projects.page(tx, 1, after="", limit=100),
    "the links of a project": lambda tx: projects.count_links(tx, 1),
}


@pytest.mark.parametrize("walk", WALKS)
def test_what_people_browse_is_found_by_an_index_in_its_order(explaining, walk):
    asyncio.run(WALKS[walk](explaining))

    steps = [step for plan in explaining.plans for step in plan]
    assert steps
    assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]


PERIOD = Period.of_month("2026-03")
USAGE = {
    "current": lambda tx: usage.current(tx, 1),
    "repositories": lambda tx: usage.page_of_repositories(tx, 1, PERIOD, after="", limit=100),
    "projects": lambda tx: usage.page_of_projects(tx, 1, PERIOD, after="", limit=100),
}


@pytest.mark.parametrize("question", USAGE)
def test_usage_is_found_by_an_index(explaining, question):
    asyncio.run(_or_nothing(USAGE[question](explaining)))

    (plan,) = explaining.plans
    assert not [step for step in plan if _walks(step)]


def test_the_fold_touches_the_lines_of_its_deltas_alone(explaining):
    asyncio.run(usage.fold(explaining, [1, 2], day=PERIOD.end))

    steps = [step for plan in explaining.plans for step in plan]
    assert "SEARCH byte_deltas USING INDEX sqlite_autoindex_byte_deltas_1 (id=?)" in steps
    assert not [step for step in steps if _walks(step)]


_DERIVED = {"CONSTANT", "each_delta", "json_each", "k", "d"}


def _walks(step: str) -> bool:
    """Whether a step walks a table, and not what the statement has made itself."""
    return step.startswith("SCAN") and step.split()[1] not in _DERIVED


def test_a_mirrored_tag_is_found_by_keys_alone(explaining):
    asyncio.run(_or_nothing(mirrored.find(explaining, 1, "v1")))

    (plan,) = explaining.plans
    assert plan[-3:] == [
        "SEARCH t USING PRIMARY KEY (repository_id=? AND name=?) LEFT-JOIN",
        "SEARCH m USING INDEX sqlite_autoindex_manifests_1 (repository_id=? AND digest=?) LEFT-JOIN",
        "SEARCH l USING PRIMARY KEY (repository_id=? AND reference=?) LEFT-JOIN",
    ]


def test_a_page_of_mirrored_tags_is_read_in_its_order(explaining):
    asyncio.run(lookups.page(explaining, 1, after="v1", limit=100))

    (plan,) = explaining.plans
    assert "SEARCH tags USING PRIMARY KEY (repository_id=? AND name>?)" in plan
    assert "SEARCH l USING PRIMARY KEY (repository_id=? AND reference>?)" in plan
    assert not [step for step in plan if step.startswith("SCAN lookups")]


def test_what_upstreams_denied_is_found_without_the_rest(explaining):
    asyncio.run(lookups.sweep(explaining, before=1))

    ((plan,),) = explaining.plans
    assert "lookups_of_nothing" in plan


async def _or_nothing(question):
    with suppress(AssertionError):  # it gets no rows here
        await question


def test_looking_for_work_walks_neither_repositories_nor_runs(explaining):
    asyncio.run(sync_runs.find_due(explaining, now=1, latest=2, without=[]))
    asyncio.run(sync_runs.find_running(explaining, limit=1))
    asyncio.run(sync_runs.find_waiting(explaining, without=[]))
    asyncio.run(eviction.find_idle(explaining, idle_since=1, now=1, limit=1))

    due, running, waiting, idle = explaining.plans
    assert [step for step in due if " r " in step] == [
        "SEARCH r USING INDEX repositories_synced (sync_due_at<?)",
        "SEARCH r USING INDEX repositories_synced (sync_due_at>?)",
    ]
    assert running == ["SCAN sync_runs USING INDEX sync_runs_open"]  # only open ones are in it
    assert "SCAN s USING INDEX sync_runs_open" in waiting
    assert idle[0] == "SEARCH r USING INDEX repositories_by_access (<expr><?)"


def test_what_scrub_reads_next_is_found_by_an_index(explaining):
    asyncio.run(scrub.claim(explaining, before=2, until=3))
    asyncio.run(scrub.claim_damaged(explaining, before=2, until=3))

    assert not any(step.startswith("SCAN") for plan in explaining.plans for step in plan)
    oldest, damaged = explaining.plans
    assert any("blobs_by_scrub (scrubbed_at<?)" in step for step in oldest)
    assert any("USING INDEX blobs_damaged" in step for step in damaged)


def test_whether_a_blob_is_damaged_costs_a_pusher_one_look(explaining):
    asyncio.run(blobs.protect(explaining, 1, "sha256:0", protected_until=1))

    (plan,) = explaining.plans
    assert not any(step.startswith("SCAN") for step in plan)


RETENTION = {
    "the oldest tags": (
        lambda tx: retention.page_of_oldest(
            tx, 1, after=(1, "a"), before=(9, "z"), pulled=True, limit=500
        ),
        "SEARCH t USING INDEX tags_by_push (repository_id=? AND (pushed_at,name)>(?,?) AND ",
    ),
    "the newest tags": (
        lambda tx: retention.page_of_newest(tx, 1, before=(9, "z"), limit=500),
        "SEARCH t USING INDEX tags_by_push (repository_id=? AND (pushed_at,name)<(?,?))",
    ),
    "the last of the newest tags": (
        lambda tx: retention.find_nth_newest(tx, 1, 5, now=9),
        "SEARCH t USING INDEX tags_by_push (repository_id=?)",
    ),
    "expired tags": (
        lambda tx: retention.page_of_expired(tx, 1, now=9, after=(1, "a"), limit=500),
        "SEARCH t USING INDEX tags_by_expiry (repository_id=? AND (expires_at,name)>(?,?) AND ",
    ),
    "manifests without a tag": (
        lambda tx: retention.page_of_untagged(
            tx, 1, after=(1, "a"), before=9, pulled=True, limit=500
        ),
        "SEARCH m USING INDEX manifests_by_push (repository_id=? AND (pushed_at,digest)>(?,?) AND ",
    ),
    "some tags": (
        lambda tx: retention.find_tags(tx, 1, ["v1"], pulled=True),
        "SEARCH t USING PRIMARY KEY (repository_id=? AND name=?)",
    ),
    "a lock of manifests": (
        lambda tx: orphans.lock_manifests(tx, 1, ["sha256:0"]),
        "SEARCH manifests USING INDEX sqlite_autoindex_manifests_1 (repository_id=? AND digest=?)",
    ),
    "a lock of links": (
        lambda tx: unused.lock_links(tx, 1, ["sha256:0"]),
        "SEARCH blob_links USING COVERING INDEX blob_links_of_blob (digest=? AND repository_id=?)",
    ),
    "a lock of blobs": (
        lambda tx: unused.lock_blobs(tx, ["sha256:0"]),
        "SEARCH blobs USING INDEX sqlite_autoindex_blobs_1 (digest=?)",
    ),
    "repositories that are due": (
        lambda tx: retention_turns.find_due(tx, after=1, now=9, limit=100),
        "SEARCH r USING INDEX repositories_by_retention (organisation_id=? AND retention_due_at<?)",
    ),
    "what keeps manifests": (
        lambda tx: reachability.find_kept(tx, 1, ["sha256:0"], now=9),
        "SEARCH r USING INDEX manifests_by_subject (repository_id=? AND subject=?)",
    ),
}


@pytest.mark.parametrize("question", RETENTION)
def test_retention_walks_no_more_rows_than_it_returns(explaining, question):
    ask, expected = RETENTION[question]

    asyncio.run(ask(explaining))

    (plan,) = explaining.plans
    assert any(step.startswith(expected) for step in plan), plan
    tables = {"t", "m", "o", "r", "l", "u", "f", "p"}
    assert not [step for step in plan if step.startswith("SCAN") and step.split()[1] in tables]


def test_the_end_of_an_upload_is_found_behind_any_number_of_segments(explaining):
    asyncio.run(segments.find_last(explaining, "a", size=1))

    assert explaining.plans == [["SEARCH segments USING PRIMARY KEY (upload_key=? AND start<?)"]]


def test_what_is_to_be_deleted_is_looked_up_among_blobs_and_segments(explaining):
    asyncio.run(tombstones.find_due(explaining, now=1, limit=100))
    asyncio.run(fsck.find_unknown(explaining, ["a"]))

    due, unknown = explaining.plans
    assert not [step for step in due if step.startswith("SCAN")]
    walked = [step.split()[1] for step in unknown if step.startswith("SCAN")]
    assert walked == ["json_each", "uploads"]  # few, and once
