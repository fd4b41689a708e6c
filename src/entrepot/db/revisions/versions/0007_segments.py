"""Segments: uploads to an object store are lists of objects."""

from entrepot.db.revisions.dialect import run

revision = "0007"
down_revision = "0006"

# `upload_key` is uploads.storage_key. The rows stay behind the session while a blob's storage_key
# is the upload's with `.parts`: until its segments are joined, and the key's tombstone is gone.
STATEMENTS = """
CREATE TABLE segments (
    upload_key {text} NOT NULL,
    start BIGINT NOT NULL,
    size BIGINT NOT NULL,
    object_key {text} NOT NULL UNIQUE,
    PRIMARY KEY (upload_key, start)
){clustered};
"""


def upgrade() -> None:
    """Create it."""
    run(STATEMENTS)
