"""The few words in which the two databases' schemas differ."""

from alembic import op

_WORDS = {
    "sqlite": {"text": "TEXT", "bytes": "BLOB", "clustered": " WITHOUT ROWID"},
    "postgresql": {"text": 'TEXT COLLATE "C"', "bytes": "BYTEA", "clustered": ""},
}


def run(statements: str) -> None:
    """Execute statements, each ended by `;`, with {text}, {bytes} and {clustered} filled in.

    No statement may hold a `;` or a brace of its own.
    """
    connection = op.get_bind()
    for statement in statements.format(**_WORDS[connection.dialect.name]).split(";"):
        if statement.strip():
            connection.exec_driver_sql(statement)
