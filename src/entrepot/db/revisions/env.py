"""Run by alembic: applies revisions in the transaction that `entrepot.db.migrate` has begun."""

from alembic import context

# One transaction for all revisions, on SQLite too: killed half-way, nothing has happened.
context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
