"""Lifecycle: retention, undo, what collection, scrub and usage keep."""

from entrepot.db.revisions.dialect import run

revision = "0006"
down_revision = "0005"

# `orphaned_at` is when a manifest lost its last root by a deletion: from then on it waits for
# collection. NULL where it never had one, or the tag moved on: then it ages by retention.
# mirrored_children has no foreign keys: what an upstream gave may come and go in any order.
# `stamp` is what the store said of an object when it was last hashed; another one is a change that
# we did not make. usage_points are cumulative: byte-seconds between two moments are a difference;
# `at` is the midnight that ends a day, repository 0 the organisation, where a shared digest counts
# once, and -1 the sum of its repositories.
STATEMENTS = """
ALTER TABLE organisations ADD COLUMN quota_bytes BIGINT;
ALTER TABLE organisations ADD COLUMN quota_repositories BIGINT;
ALTER TABLE organisations ADD COLUMN quota_tags BIGINT;

ALTER TABLE repositories ADD COLUMN retention TEXT;
ALTER TABLE repositories ADD COLUMN retention_due_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repositories_by_retention
    ON repositories (organisation_id, retention_due_at) WHERE deleted_at IS NULL;
CREATE INDEX repositories_deleted
    ON repositories (organisation_id, path, deleted_at) WHERE deleted_at IS NOT NULL;

ALTER TABLE tags ADD COLUMN expires_at BIGINT;
CREATE INDEX tags_by_push ON tags (repository_id, pushed_at, name);
CREATE INDEX tags_by_expiry ON tags (repository_id, expires_at) WHERE expires_at IS NOT NULL;
ALTER TABLE tag_history ADD COLUMN ended_by {text};
ALTER TABLE tag_history ADD COLUMN ended_token_id BIGINT;
CREATE INDEX tag_history_by_end ON tag_history (repository_id, ended_at)
 WHERE ended_at IS NOT NULL;

ALTER TABLE manifests ADD COLUMN orphaned_at BIGINT;
ALTER TABLE manifests ADD COLUMN pulled_at BIGINT;
CREATE INDEX manifests_by_push ON manifests (repository_id, pushed_at, digest)
 WHERE is_pushed = 1 AND deleted_at IS NULL AND orphaned_at IS NULL;
CREATE TABLE mirrored_children (
    repository_id BIGINT NOT NULL,
    manifest {text} NOT NULL,
    digest {text} NOT NULL,
    PRIMARY KEY (repository_id, manifest, digest)
){clustered};
CREATE INDEX mirrored_children_by_digest ON mirrored_children (repository_id, digest);

ALTER TABLE review_queue ADD COLUMN reason TEXT;
ALTER TABLE tombstones ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tombstones ADD COLUMN error TEXT;
CREATE TABLE collection_days (
    day BIGINT PRIMARY KEY,
    manifests BIGINT NOT NULL,
    links BIGINT NOT NULL,
    objects BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);

ALTER TABLE blobs ADD COLUMN stamp BIGINT;
ALTER TABLE blobs ADD COLUMN scrubbed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE blobs ADD COLUMN damaged_at BIGINT;
CREATE INDEX blobs_by_scrub ON blobs (scrubbed_at, digest);
CREATE INDEX blobs_damaged ON blobs (digest) WHERE damaged_at IS NOT NULL;

ALTER TABLE byte_deltas ADD COLUMN tags BIGINT NOT NULL DEFAULT 0;
CREATE INDEX byte_deltas_by_age ON byte_deltas (at, id);
CREATE TABLE usage_points (
    organisation_id BIGINT NOT NULL,
    repository_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    tags BIGINT NOT NULL,
    byte_seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (organisation_id, repository_id, at)
){clustered};
"""


def upgrade() -> None:
    """Add the columns and tables of the lifecycle."""
    run(STATEMENTS)
