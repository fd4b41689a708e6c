"""Upstream registries, pull-through repositories, and what is known of their tags and blobs."""

from entrepot.db.revisions.dialect import run

revision = "0004"
down_revision = "0003"

# A mirrored manifest has no rows in manifest_blobs and manifest_children: only what was pushed
# holds its parts, so that whatever nobody pushed may leave again.
STATEMENTS = """
CREATE TABLE upstreams (
    id BIGINT PRIMARY KEY,
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    name {text} NOT NULL,
    preset {text} NOT NULL,
    origin {text} NOT NULL,
    auth_kind {text} NOT NULL,
    auth_name TEXT NOT NULL,
    external_id TEXT NOT NULL,
    sealed TEXT,
    challenge {text},
    realm TEXT,
    service TEXT,
    checked_at BIGINT,
    check_error TEXT,
    member_patterns TEXT,
    credential_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX upstreams_by_name
    ON upstreams (organisation_id, name) WHERE deleted_at IS NULL;
CREATE INDEX upstreams_of_organisation ON upstreams (organisation_id, id);

CREATE TABLE upstream_states (
    upstream_id BIGINT PRIMARY KEY REFERENCES upstreams (id),
    open_until BIGINT NOT NULL,
    busy_until BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    reason TEXT NOT NULL,
    rate_limit BIGINT,
    rate_remaining BIGINT,
    rate_window BIGINT,
    rate_seen_at BIGINT,
    requests BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    hits BIGINT NOT NULL,
    misses BIGINT NOT NULL,
    coalesced BIGINT NOT NULL,
    stale BIGINT NOT NULL
);

CREATE TABLE namespace_mirrors (
    id BIGINT PRIMARY KEY,
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    prefix {text} NOT NULL,
    upstream_id BIGINT NOT NULL REFERENCES upstreams (id),
    upstream_prefix {text} NOT NULL,
    allow TEXT,
    deny TEXT,
    freshness BIGINT NOT NULL,
    is_public BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    version BIGINT NOT NULL
);
CREATE UNIQUE INDEX namespace_mirrors_by_prefix
    ON namespace_mirrors (organisation_id, prefix) WHERE deleted_at IS NULL;
CREATE INDEX namespace_mirrors_of_upstream ON namespace_mirrors (upstream_id);

ALTER TABLE repositories ADD COLUMN upstream_id BIGINT REFERENCES upstreams (id);
ALTER TABLE repositories ADD COLUMN upstream_path {text};
ALTER TABLE repositories ADD COLUMN freshness BIGINT;
ALTER TABLE repositories ADD COLUMN accepts_push BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN may_shadow BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN sync TEXT;
ALTER TABLE repositories ADD COLUMN keeps_deleted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN warm_tags TEXT;
ALTER TABLE repositories ADD COLUMN warm_platforms TEXT;
ALTER TABLE repositories ADD COLUMN accessed_at BIGINT;
ALTER TABLE repositories ADD COLUMN last_synced_at BIGINT;
ALTER TABLE repositories ADD COLUMN last_sync_error TEXT;
ALTER TABLE repositories ADD COLUMN sync_due_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX repositories_of_upstream ON repositories (upstream_id) WHERE upstream_id IS NOT NULL;
CREATE INDEX repositories_by_access
    ON repositories ((COALESCE(accessed_at, created_at))) WHERE upstream_id IS NOT NULL;
CREATE INDEX repositories_synced ON repositories (sync_due_at) WHERE sync IS NOT NULL;

ALTER TABLE manifests ADD COLUMN is_pushed BIGINT NOT NULL DEFAULT 1;
ALTER TABLE tags ADD COLUMN is_pushed BIGINT NOT NULL DEFAULT 1;

CREATE TABLE lookups (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    reference {text} NOT NULL,
    digest {text},
    checked_at BIGINT,
    listed_at BIGINT,
    claim BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    PRIMARY KEY (repository_id, reference)
){clustered};
CREATE INDEX lookups_of_nothing
    ON lookups (checked_at) WHERE digest IS NULL AND listed_at IS NULL;

CREATE TABLE referrer_lists (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    subject {text} NOT NULL,
    body {bytes} NOT NULL,
    PRIMARY KEY (repository_id, subject)
);

CREATE TABLE fetches (
    upstream_id BIGINT NOT NULL REFERENCES upstreams (id),
    digest {text} NOT NULL,
    id {text} NOT NULL UNIQUE,
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    leader {text} NOT NULL,
    node {text} NOT NULL,
    node_url TEXT NOT NULL,
    beat BIGINT NOT NULL,
    size BIGINT,
    started_at BIGINT NOT NULL,
    PRIMARY KEY (upstream_id, digest)
);

CREATE TABLE sync_runs (
    id BIGINT PRIMARY KEY,
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    cause {text} NOT NULL,
    leader {text} NOT NULL,
    beat BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    wanted BIGINT NOT NULL,
    done BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    fetched BIGINT NOT NULL,
    error TEXT,
    failures TEXT
);
CREATE INDEX sync_runs_of_repository ON sync_runs (repository_id, id);
CREATE UNIQUE INDEX sync_runs_open ON sync_runs (repository_id) WHERE ended_at IS NULL;
"""


def upgrade() -> None:
    """Add the tables of the pull-through cache."""
    run(STATEMENTS)
