"""Last failure: what went wrong last with an upstream registry, and when."""

from entrepot.db.revisions.dialect import run

revision = "0005"
down_revision = "0004"

STATEMENTS = """
ALTER TABLE upstream_states ADD COLUMN last_error TEXT;
ALTER TABLE upstream_states ADD COLUMN last_failed_at BIGINT;
"""


def upgrade() -> None:
    """Add the columns, empty until something fails."""
    run(STATEMENTS)
