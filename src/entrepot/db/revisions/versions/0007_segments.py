"""Segments: uploads to an object store are lists of objects. Which programs may work here."""

from entrepot.db.revisions.dialect import run

revision = "0007"
down_revision = "0006"
# The oldest revision whose programs work on this schema; see docs/upgrading.md.
compatible_with = "0007"

# `upload_key` is uploads.storage_key. The rows stay behind the session while a blob's storage_key
# is the upload's with `.segments`: until its segments are joined, and the key's tombstone is gone.
STATEMENTS = """
CREATE TABLE segments (
    upload_key {text} NOT NULL,
    start BIGINT NOT NULL,
    size BIGINT NOT NULL,
    object_key {text} NOT NULL UNIQUE,
    PRIMARY KEY (upload_key, start)
){clustered};

ALTER TABLE uploads ADD COLUMN segment_count INTEGER NOT NULL DEFAULT 0;

CREATE TABLE compatibility (
    compatible_with {text} NOT NULL,
    made_by {text} NOT NULL
);
"""


def upgrade() -> None:
    """Create them."""
    run(STATEMENTS)
