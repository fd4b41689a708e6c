"""The registry: organisations, tokens, repositories, content, and what collection will need."""

from entrepot.db.revisions.dialect import run

revision = "0001"
down_revision = None

# {text} is text whose order and equality are those of its bytes: tag pages and keys must not follow
# a locale. {bytes} is a byte string. {clustered} stores a table inside its primary key.
# Foreign keys never cascade: a racing delete fails and the row stays.
STATEMENTS = """
CREATE TABLE installation (
    name {text} PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE organisations (
    id BIGINT PRIMARY KEY,
    public_id {text} NOT NULL UNIQUE,
    slug {text} NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);

CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    name {text} NOT NULL UNIQUE,
    is_administrator BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
);

CREATE TABLE memberships (
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    user_id BIGINT NOT NULL REFERENCES users (id),
    role {text} NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, user_id)
);
CREATE INDEX memberships_of_user ON memberships (user_id);

CREATE TABLE projects (
    id BIGINT PRIMARY KEY,
    public_id {text} NOT NULL UNIQUE,
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);

CREATE TABLE repositories (
    id BIGINT PRIMARY KEY,
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    project_id BIGINT REFERENCES projects (id),
    path {text} NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX repositories_by_path
    ON repositories (organisation_id, path) WHERE deleted_at IS NULL;

CREATE TABLE tokens (
    id BIGINT PRIMARY KEY,
    kind {text} NOT NULL,
    hash {text} NOT NULL UNIQUE,
    name TEXT NOT NULL,
    user_id BIGINT REFERENCES users (id),
    organisation_id BIGINT REFERENCES organisations (id),
    project_id BIGINT REFERENCES projects (id),
    patterns TEXT,
    actions TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE blobs (
    digest {text} PRIMARY KEY,
    size BIGINT NOT NULL,
    storage_key {text} NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE blob_links (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    digest {text} NOT NULL REFERENCES blobs (digest),
    created_at BIGINT NOT NULL,
    protected_until BIGINT NOT NULL,
    deleted_at BIGINT,
    PRIMARY KEY (repository_id, digest)
){clustered};
CREATE INDEX blob_links_of_blob ON blob_links (digest);

CREATE TABLE manifests (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    digest {text} NOT NULL,
    media_type TEXT NOT NULL,
    artifact_type TEXT,
    subject {text},
    annotations TEXT,
    depth BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    pushed_at BIGINT NOT NULL,
    protected_until BIGINT NOT NULL,
    deleted_at BIGINT,
    size BIGINT NOT NULL,
    body {bytes} NOT NULL,
    PRIMARY KEY (repository_id, digest)
);
CREATE INDEX manifests_by_subject
    ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE manifest_blobs (
    repository_id BIGINT NOT NULL,
    manifest {text} NOT NULL,
    digest {text} NOT NULL,
    PRIMARY KEY (repository_id, manifest, digest),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, digest) REFERENCES blob_links (repository_id, digest)
){clustered};
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (repository_id, digest);

CREATE TABLE manifest_children (
    repository_id BIGINT NOT NULL,
    manifest {text} NOT NULL,
    digest {text} NOT NULL,
    PRIMARY KEY (repository_id, manifest, digest),
    FOREIGN KEY (repository_id, manifest) REFERENCES manifests (repository_id, digest),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
){clustered};
CREATE INDEX manifest_children_by_digest ON manifest_children (repository_id, digest);

CREATE TABLE tags (
    repository_id BIGINT NOT NULL,
    name {text} NOT NULL,
    digest {text} NOT NULL,
    version BIGINT NOT NULL,
    pushed_at BIGINT NOT NULL,
    PRIMARY KEY (repository_id, name),
    FOREIGN KEY (repository_id, digest) REFERENCES manifests (repository_id, digest)
){clustered};
CREATE INDEX tags_by_digest ON tags (repository_id, digest);

CREATE TABLE tag_history (
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    name {text} NOT NULL,
    version BIGINT NOT NULL,
    digest {text} NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    token_id BIGINT,
    PRIMARY KEY (repository_id, name, version)
){clustered};
CREATE UNIQUE INDEX tag_history_open ON tag_history (repository_id, name) WHERE ended_at IS NULL;

CREATE TABLE uploads (
    id {text} PRIMARY KEY,
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    token_id BIGINT NOT NULL,
    algorithm {text} NOT NULL,
    storage_key {text} NOT NULL,
    size BIGINT NOT NULL,
    digest {text},
    boot_id {text},
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    committed_at BIGINT
);
CREATE INDEX uploads_by_expiry ON uploads (expires_at);
CREATE INDEX uploads_by_token ON uploads (token_id, repository_id, created_at);
CREATE INDEX uploads_open ON uploads (token_id, expires_at) WHERE committed_at IS NULL;

CREATE TABLE review_queue (
    kind {text} NOT NULL,
    repository_id BIGINT NOT NULL,
    digest {text} NOT NULL,
    due_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (kind, repository_id, digest)
){clustered};
CREATE INDEX review_queue_by_due ON review_queue (due_at);

CREATE TABLE tombstones (
    storage_key {text} PRIMARY KEY,
    digest {text} NOT NULL,
    size BIGINT NOT NULL,
    due_at BIGINT NOT NULL
);
CREATE INDEX tombstones_by_due ON tombstones (due_at);

CREATE TABLE organisation_content (
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    digest {text} NOT NULL,
    holders BIGINT NOT NULL,
    PRIMARY KEY (organisation_id, digest)
){clustered};

CREATE TABLE byte_deltas (
    id BIGINT PRIMARY KEY,
    organisation_id BIGINT NOT NULL,
    repository_id BIGINT,
    at BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
CREATE INDEX byte_deltas_by_time ON byte_deltas (organisation_id, at);
"""


def upgrade() -> None:
    """Create every table."""
    run(STATEMENTS)
