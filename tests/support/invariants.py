"""What must hold of a database and its objects at any moment, after any crash.

Reads both as a stranger would: plain SQL, plain files or S3, nothing of the registry's own code.
"""

import hashlib
import json
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.support.kept import Kept, KeptFiles, Lying

_ELSEWHERE = ("foreign.", "nondistributable.")
_IN_SEGMENTS = ".segments"
_REPOSITORIES = -1  # the line of all repositories of an organisation together


def check_invariants(
    database_url: str,
    data: Path | Kept,
    *,
    now: float | None = None,
    grace_seconds: float = 0,
    late_seconds: float = 3_600,
    samples: int = 200,
) -> None:
    """Raise AssertionError with everything that is wrong.

    An object without a row is wrong once it is older than `grace_seconds`, a session or an upload
    file once it is later than its expiry by `late_seconds`. `samples` objects are hashed. `now` is
    the clock that the registry was given, if it was not the machine's.
    """
    kept = KeptFiles(data) if isinstance(data, Path) else data
    found = list(_violations(database_url, kept, now or time.time(), grace_seconds, late_seconds))
    if not found:  # hashing is dear: only what is otherwise in order
        found = list(_wrong_bytes(database_url, kept, samples))
    assert not found, "\n".join([f"{len(found)} invariants are broken:", *found[:50]])


def _violations(
    database_url: str, kept: Kept, now: float, grace: float, late: float
) -> Iterator[str]:
    # Objects before rows: an object gets its row after its bytes, and loses it before. And after:
    # who has lost both since is no stranger.
    objects, staged = kept.objects(), kept.staged()
    rows = _read(database_url)
    objects_now, staged_now = kept.objects(), kept.staged()
    yield from _damage(database_url)
    yield from _tags(rows)
    yield from _history(rows)
    yield from _manifests(rows)
    yield from _blobs(rows, objects_now)
    yield from _segments(rows)
    yield from _objects(rows, _in_both(objects, objects_now), now - grace)
    yield from _uploads(rows, _in_both(staged, staged_now), now - late)
    yield from _accounts(rows)
    yield from _counted_tags(rows)
    yield from _tenants(rows)
    yield from _orphans(rows)


def _in_both(before: dict[str, Lying], after: dict[str, Lying]) -> dict[str, Lying]:
    return {key: lying for key, lying in after.items() if key in before}


@dataclass
class _Rows:
    """Every table, each row by the names of its columns."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __getitem__(self, table: str) -> list[dict[str, Any]]:
        return self.tables[table]


_TABLES = (
    *("organisations", "projects", "repositories", "tokens", "memberships"),
    *("blobs", "blob_links", "manifests", "manifest_blobs", "manifest_children"),
    *("tags", "tag_history", "uploads", "segments", "review_queue", "tombstones"),
    *("mirrored_children", "organisation_content", "byte_deltas", "usage_points"),
)


def _read(database_url: str, tables: tuple[str, ...] = _TABLES) -> _Rows:
    """All rows as of one moment."""
    rows = _Rows()
    if database_url.startswith("sqlite:"):
        with closing(_sqlite(database_url)) as sqlite:
            sqlite.execute("BEGIN")
            for table in tables:
                cursor = sqlite.execute(f"SELECT * FROM {table}")
                names = [column[0] for column in cursor.description]
                rows.tables[table] = [dict(zip(names, row, strict=True)) for row in cursor]
        return rows
    with psycopg.connect(database_url, row_factory=psycopg.rows.dict_row) as postgres:
        postgres.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for table in tables:
            rows.tables[table] = postgres.execute(f"SELECT * FROM {table}").fetchall()
    return rows


def _sqlite(database_url: str) -> sqlite3.Connection:
    path = Path(database_url.removeprefix("sqlite:///"))
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _damage(database_url: str) -> Iterator[str]:
    """What SQLite finds wrong with its own file."""
    if not database_url.startswith("sqlite:"):
        return
    with closing(_sqlite(database_url)) as sqlite:
        for pragma in ("integrity_check", "foreign_key_check"):
            answer = sqlite.execute(f"PRAGMA {pragma}").fetchall()
            yield from (f"{pragma}: {line}" for line in answer if line != ("ok",))


def _live(rows: _Rows, table: str) -> dict[tuple[int, str], dict[str, Any]]:
    """What a repository has now, by repository and digest."""
    return {
        (row["repository_id"], row["digest"]): row
        for row in rows[table]
        if row["deleted_at"] is None
    }


def _tags(rows: _Rows) -> Iterator[str]:
    manifests = _live(rows, "manifests")
    for tag in rows["tags"]:
        if (tag["repository_id"], tag["digest"]) not in manifests:
            yield f"tag {tag['name']} points at {tag['digest']}, which is not there"


def _history(rows: _Rows) -> Iterator[str]:
    """Each tag has one open line of history, which says the same; versions have no gap."""
    tags = {(tag["repository_id"], tag["name"]): tag for tag in rows["tags"]}
    versions: dict[tuple[int, str], list[int]] = defaultdict(list)
    is_open: Counter[tuple[int, str]] = Counter()
    for line in rows["tag_history"]:
        key = (line["repository_id"], line["name"])
        versions[key].append(line["version"])
        if line["ended_at"] is None:
            is_open[key] += 1
            tag = tags.get(key)
            if tag is None:
                yield f"the history of {key} is open, but there is no such tag"
            elif (tag["digest"], tag["version"]) != (line["digest"], line["version"]):
                yield f"tag {key} is {tag['digest']}, its history says {line['digest']}"
        elif line["ended_at"] < line["started_at"] - 60_000_000:  # clocks differ between nodes
            yield f"version {line['version']} of {key} ended before it began"
    for key in tags:
        if is_open[key] != 1:
            yield f"tag {key} has {is_open[key]} open lines of history"
    for key, numbers in versions.items():
        if sorted(numbers) != list(range(1, len(numbers) + 1)):
            yield f"the history of {key} has the versions {sorted(numbers)}"


def _manifests(rows: _Rows) -> Iterator[str]:
    """What a manifest needs is linked in its repository; of a mirrored one its upstream has it."""
    links = _live(rows, "blob_links")
    manifests = _live(rows, "manifests")
    recorded: dict[tuple[int, str], set[str]] = defaultdict(set)
    for table in ("manifest_blobs", "manifest_children"):
        for row in rows[table]:
            recorded[row["repository_id"], row["manifest"]].add(row["digest"])
    for (repository, digest), manifest in manifests.items():
        body = bytes(manifest["body"])
        if _digest(body, digest) != digest or len(body) != manifest["size"]:
            yield f"manifest {digest} has other bytes"
            continue
        needed = _needed(json.loads(body)) if manifest["is_pushed"] else set()
        if needed != recorded[repository, digest]:
            yield f"manifest {digest} references other content than is recorded"
        for part in sorted(needed):
            if (repository, part) not in links and (repository, part) not in manifests:
                yield f"manifest {digest} of repository {repository} needs {part}, not there"


def _needed(document: dict[str, Any]) -> set[str]:
    parts = [*document.get("layers", []), *document.get("blobs", [])]
    here = [
        part
        for part in parts
        if not part.get("urls")
        and not any(kind in part.get("mediaType", "") for kind in _ELSEWHERE)
    ]
    config = [document["config"]] if document.get("config") else []
    return {part["digest"] for part in [*here, *config, *document.get("manifests", [])]}


def _digest(content: bytes, named: str) -> str:
    algorithm = named.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def _blobs(rows: _Rows, objects: dict[str, Lying]) -> Iterator[str]:
    """Every blob's object exists with its size, and nothing is about to delete it."""
    dying = {row["storage_key"] for row in rows["tombstones"]}
    for blob in rows["blobs"]:
        key = blob["storage_key"]
        if blob["damaged_at"] is not None:
            continue
        size = 0
        for part in _objects_of(rows, key):
            if part not in objects:
                yield f"blob {blob['digest']} has no object {part}"
                break
            size += objects[part].size
        else:
            if size != blob["size"]:
                yield f"blob {blob['digest']} has {size} bytes instead of {blob['size']}"
        if key in dying:
            yield f"blob {blob['digest']} lies at {key}, which has a tombstone"


def _objects_of(rows: _Rows, key: str) -> list[str]:
    """The objects that are a blob's, one behind the other."""
    if not key.endswith(_IN_SEGMENTS):
        return [key]
    upload_key = key.removesuffix(_IN_SEGMENTS)
    segments = [row for row in rows["segments"] if row["upload_key"] == upload_key]
    return [row["object_key"] for row in sorted(segments, key=lambda row: int(row["start"]))]


def _segments(rows: _Rows) -> Iterator[str]:
    """The segments of an upload follow each other without a gap, up to its size."""
    ends: dict[str, int] = defaultdict(int)
    for row in sorted(rows["segments"], key=lambda row: (row["upload_key"], row["start"])):
        if row["start"] != ends[row["upload_key"]]:
            yield f"segment {row['object_key']} does not begin where the one before ends"
        ends[row["upload_key"]] = row["start"] + row["size"]
    for upload in rows["uploads"]:
        end = ends.get(upload["storage_key"], upload["size"])
        if upload["committed_at"] is None and end != upload["size"]:
            yield f"upload {upload['id']} has segments of {end} bytes and {upload['size']} itself"


def _objects(rows: _Rows, objects: dict[str, Lying], moment: float) -> Iterator[str]:
    open_uploads = [row for row in rows["uploads"] if row["committed_at"] is None]
    knowing = [*rows["blobs"], *rows["tombstones"], *open_uploads]
    known = {row["storage_key"] for row in knowing}
    known |= {row["object_key"] for row in rows["segments"]}
    # What writers left of it that lost or died, until it is swept.
    knowing = [*rows["uploads"], *rows["blobs"], *rows["tombstones"]]
    uploads = {row["storage_key"].removesuffix(_IN_SEGMENTS) for row in knowing}
    for key, lying in objects.items():
        is_left = "." in key and key.partition(".")[0] in uploads
        if key not in known and not is_left and lying.changed_at < moment:
            yield f"nothing knows the object {key}"


def _uploads(rows: _Rows, staged: dict[str, Lying], moment: float) -> Iterator[str]:
    sessions = {row["storage_key"] for row in rows["uploads"]}
    for row in rows["uploads"]:
        if 0 < row["expires_at"] < moment * 1_000_000:  # 0: its repository went, at some time
            yield f"upload {row['id']} expired long ago and is still there"
    for key, lying in staged.items():
        if key not in sessions and lying.changed_at < moment:
            yield f"nothing knows the upload file {key}"


def _accounts(rows: _Rows) -> Iterator[str]:
    """Bytes per repository and organisation are what the rows add up to."""
    owner = {row["id"]: row["organisation_id"] for row in rows["repositories"]}
    size = {row["digest"]: row["size"] for row in rows["blobs"]}
    content = [
        (row["repository_id"], row["digest"], size.get(row["digest"], 0))
        for row in rows["blob_links"]
    ]
    content += [(row["repository_id"], row["digest"], row["size"]) for row in rows["manifests"]]
    holders: Counter[tuple[int, str]] = Counter()
    expected: Counter[tuple[int, int | None]] = Counter()
    for repository, digest, count in content:
        organisation = owner[repository]
        expected[organisation, repository] += count
        expected[organisation, _REPOSITORIES] += count
        if not holders[organisation, digest]:
            expected[organisation, None] += count
        holders[organisation, digest] += 1
    kept = {
        (row["organisation_id"], row["digest"]): row["holders"]
        for row in rows["organisation_content"]
        if row["holders"]
    }
    if kept != dict(holders):
        wrong = {key for key in kept.keys() | holders.keys() if kept.get(key) != holders.get(key)}
        yield f"organisation_content differs from what is held: {sorted(wrong)[:5]}"
    counted: Counter[tuple[int, int | None]] = Counter()
    for row in rows["byte_deltas"]:
        counted[row["organisation_id"], row["repository_id"]] += row["bytes"]
        if row["repository_id"] is not None:
            counted[row["organisation_id"], _REPOSITORIES] += row["bytes"]
    # What was folded away is in the last point; repository 0 is the organisation.
    last: dict[tuple[int, int], dict[str, Any]] = {}
    for row in sorted(rows["usage_points"], key=lambda row: row["at"]):
        last[row["organisation_id"], row["repository_id"]] = row
    for (organisation, repository), row in last.items():
        counted[organisation, repository or None] += row["bytes"]
    for key in counted.keys() | expected.keys():
        if counted[key] != expected[key]:
            yield f"the accounts of {key} add up to {counted[key]}, not {expected[key]}"


def _counted_tags(rows: _Rows) -> Iterator[str]:
    """Pushed tags per organisation are what its accounts add up to."""
    owner = {row["id"]: row["organisation_id"] for row in rows["repositories"]}
    counted: Counter[int] = Counter()
    last: dict[int, int] = {}
    for row in rows["byte_deltas"]:
        counted[row["organisation_id"]] += row["tags"]
    for row in sorted(rows["usage_points"], key=lambda row: row["at"]):
        if row["repository_id"] == 0:
            last[row["organisation_id"]] = row["tags"]
    counted.update(last)
    pushed = Counter(owner[row["repository_id"]] for row in rows["tags"] if row["is_pushed"])
    for organisation in counted.keys() | pushed.keys():
        if counted[organisation] != pushed[organisation]:
            yield f"{organisation} has {pushed[organisation]} tags, not {counted[organisation]}"


def _tenants(rows: _Rows) -> Iterator[str]:
    """Nothing of one organisation belongs to another."""
    owner = {row["id"]: row["organisation_id"] for row in rows["repositories"]}
    projects = {row["id"]: row["organisation_id"] for row in rows["projects"]}
    for row in rows["repositories"]:
        if row["project_id"] is not None and projects[row["project_id"]] != row["organisation_id"]:
            yield f"repository {row['path']} is in another organisation than its project"
    for row in rows["tokens"]:
        project = row["project_id"]
        if project is not None and projects[project] != row["organisation_id"]:
            yield f"token {row['id']} is of another organisation than its project"
    for row in rows["byte_deltas"]:
        repository = row["repository_id"]
        if repository in owner and owner[repository] != row["organisation_id"]:
            yield f"bytes of repository {repository} are on another organisation's account"
    paths = Counter(
        (row["organisation_id"], row["path"])
        for row in rows["repositories"]
        if row["deleted_at"] is None
    )
    yield from (f"{path} is {count} repositories" for path, count in paths.items() if count > 1)


def _orphans(rows: _Rows) -> Iterator[str]:
    """Whatever has lost its last root, or never had one, waits for a review.

    What is in a deleted repository goes with it.
    """
    queued = {(row["kind"], row["repository_id"], row["digest"]) for row in rows["review_queue"]}
    deleted = {row["id"] for row in rows["repositories"] if row["deleted_at"] is not None}
    for repository in deleted:
        if ("repository", repository, "") not in queued:
            yield f"the repository {repository} is deleted and nobody will empty it"
    linked = {row["digest"] for row in rows["blob_links"]}
    waiting = [("blob", 0, row["digest"]) for row in rows["blobs"] if row["digest"] not in linked]
    waiting += [key for key in _rootless(rows) if key[1] not in deleted]
    for kind, repository, digest in waiting:
        if (kind, repository, digest) not in queued:
            yield f"the {kind} {digest} of {repository} is unused and nobody will look at it"


def _rootless(rows: _Rows) -> Iterator[tuple[str, int, str]]:
    """Links that nothing needs, and manifests that wait to go.

    A live manifest without a tag that was pushed by its digest is retention's, and a blob that came
    from an upstream is eviction's. What a restorable index lists waits for that.
    """
    needed = {(row["repository_id"], row["digest"]) for row in rows["manifest_blobs"]}
    mirrors = {row["id"] for row in rows["repositories"] if row["upstream_id"] is not None}
    for row in rows["blob_links"]:
        is_held = (row["repository_id"], row["digest"]) in needed
        if not is_held and (row["repository_id"] not in mirrors or row["deleted_at"] is not None):
            yield "link", row["repository_id"], row["digest"]
    listed = {
        (row["repository_id"], row["digest"])
        for table in ("manifest_children", "mirrored_children")
        for row in rows[table]
    }
    for row in rows["manifests"]:
        waits = row["deleted_at"] is not None or row["orphaned_at"] is not None
        if waits and row["is_pushed"] and (row["repository_id"], row["digest"]) not in listed:
            yield "manifest", row["repository_id"], row["digest"]


def _wrong_bytes(database_url: str, kept: Kept, samples: int) -> Iterator[str]:
    rows = _read(database_url, ("blobs", "segments"))
    blobs = [row for row in rows["blobs"] if row["damaged_at"] is None]
    for blob in random.sample(blobs, min(samples, len(blobs))):
        running = hashlib.new(blob["digest"].partition(":")[0])
        for part in _objects_of(rows, blob["storage_key"]):
            for piece in kept.read(part):
                running.update(piece)
        if running.hexdigest() != blob["digest"].partition(":")[2]:
            yield f"the object of {blob['digest']} has other bytes"
