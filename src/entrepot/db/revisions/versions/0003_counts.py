"""Counts: what there is of tokens and invitations, without those that ended."""

from entrepot.db.revisions.dialect import run

revision = "0003"
down_revision = "0002"

# A token without an end is one that ends after every other.
STATEMENTS = """
CREATE INDEX tokens_good_of_organisation
    ON tokens (organisation_id, COALESCE(expires_at, 9223372036854775807))
 WHERE revoked_at IS NULL;
CREATE INDEX tokens_good_of_user
    ON tokens (user_id, COALESCE(expires_at, 9223372036854775807))
 WHERE revoked_at IS NULL;
CREATE INDEX invitations_open ON invitations (organisation_id, expires_at)
 WHERE accepted_at IS NULL AND revoked_at IS NULL;
"""


def upgrade() -> None:
    """Add the indexes of what is counted."""
    run(STATEMENTS)
