"""Identity: passwords, invitations, policies, links of projects, the audit log."""

from entrepot.db.revisions.dialect import run

revision = "0002"
down_revision = "0001"

# `version` counts changes: it is the ETag of the management API.
STATEMENTS = """
ALTER TABLE organisations ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE organisations ADD COLUMN repository_creation {text} NOT NULL DEFAULT 'member';
ALTER TABLE organisations ADD COLUMN allows_public BIGINT NOT NULL DEFAULT 1;
ALTER TABLE organisations ADD COLUMN is_read_only BIGINT NOT NULL DEFAULT 0;
ALTER TABLE organisations ADD COLUMN retention TEXT;
ALTER TABLE organisations ADD COLUMN price_micros BIGINT NOT NULL DEFAULT 200000;
ALTER TABLE organisations ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

ALTER TABLE users ADD COLUMN password_hash TEXT;
ALTER TABLE users ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

ALTER TABLE memberships ADD COLUMN expires_at BIGINT;
ALTER TABLE memberships ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

ALTER TABLE projects ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
CREATE INDEX projects_by_organisation ON projects (organisation_id, public_id);

ALTER TABLE repositories ADD COLUMN is_public BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN is_read_only BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN immutable_tags TEXT;
ALTER TABLE repositories ADD COLUMN protected_tags TEXT;
ALTER TABLE repositories ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

CREATE TABLE project_links (
    project_id BIGINT NOT NULL REFERENCES projects (id),
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, repository_id)
){clustered};
CREATE INDEX project_links_of_repository ON project_links (repository_id);

ALTER TABLE tokens ADD COLUMN may_manage BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN created_by BIGINT;
ALTER TABLE tokens ADD COLUMN last_used_at BIGINT;
CREATE INDEX tokens_of_organisation ON tokens (organisation_id, id);
CREATE INDEX tokens_of_user ON tokens (user_id, id);
CREATE INDEX tokens_of_project ON tokens (project_id, id);

CREATE TABLE invitations (
    id BIGINT PRIMARY KEY,
    organisation_id BIGINT NOT NULL REFERENCES organisations (id),
    role {text} NOT NULL,
    hash {text} NOT NULL UNIQUE,
    note TEXT NOT NULL,
    created_by BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    accepted_at BIGINT,
    accepted_by BIGINT REFERENCES users (id),
    revoked_at BIGINT
);
CREATE INDEX invitations_of_organisation ON invitations (organisation_id, id);

CREATE TABLE login_attempts (
    id BIGINT PRIMARY KEY,
    account {text} NOT NULL,
    address {text} NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX login_attempts_of_account ON login_attempts (account, at);
CREATE INDEX login_attempts_of_address ON login_attempts (address, at);
CREATE INDEX login_attempts_by_time ON login_attempts (at);

CREATE TABLE audit_events (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    organisation_id BIGINT,
    action {text} NOT NULL,
    object_kind {text} NOT NULL,
    object_id {text} NOT NULL,
    object_name TEXT NOT NULL,
    actor_kind {text} NOT NULL,
    actor_name TEXT NOT NULL,
    user_id BIGINT,
    token_id BIGINT,
    address {text} NOT NULL,
    request_id TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX audit_events_of_organisation ON audit_events (organisation_id, id);
CREATE INDEX audit_events_by_time ON audit_events (at);

CREATE TABLE idempotency_keys (
    token_id BIGINT NOT NULL,
    key {text} NOT NULL,
    status BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, key)
){clustered};
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
"""


def upgrade() -> None:
    """Add the columns and tables of identity."""
    run(STATEMENTS)
