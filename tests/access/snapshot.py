"""All that a database holds, to show that a refused request changed nothing."""

from typing import Any

from entrepot.db import usage
from tests.protocol.registry import Registry

# What a refusal may change: when a token was used, how often a password was guessed.
_VOLATILE = {
    "tokens": ("last_used_at",),
    "login_attempts": "*",
    "idempotency_keys": "*",
    "repositories": ("retention_due_at", "accessed_at"),  # retention looks at them behind
    "manifests": ("pulled_at",),  # and so are pulls written
    "upstream_states": "*",  # what was counted is written behind
    "byte_deltas": "*",  # folded behind into points: `held` tells of both
    "usage_points": "*",
    "alembic_version": "*",
}
# Marks of background work in `installation`.
_MARKS = ("'usage.fold'", "'collection.epoch'")
# Rows that nothing changes: which there are tells all.
_ONLY_ADDED = {"audit_events"}


def tables_of(registry: Registry) -> list[str]:
    return sorted(_columns_of(registry))


def _columns_of(registry: Registry) -> dict[str, list[str]]:
    """The columns of every table, found in one question: PostgreSQL takes long for each."""
    sql = """
        SELECT t.name, c.name
          FROM sqlite_master AS t
          JOIN pragma_table_info(t.name) AS c
         WHERE t.type = 'table'
           AND t.name NOT LIKE 'sqlite_%'
         ORDER BY t.name, c.cid
        """
    if registry.server.database_url:
        sql = """
            SELECT table_name, column_name
              FROM information_schema.columns
             WHERE table_schema = 'public'
             ORDER BY table_name, ordinal_position
            """
    found: dict[str, list[str]] = {}
    for table, column in registry.rows(sql):
        found.setdefault(str(table), []).append(str(column))
    return found


def snapshot(registry: Registry) -> dict[str, list[Any]]:
    """Every row of every table, but for what is volatile."""

    async def read(database: Any) -> dict[str, list[Any]]:
        found = {}
        async with database.read() as tx:
            for table, columns in tables.items():
                wanted = [column for column in columns if column not in _VOLATILE.get(table, ())]
                if table in _ONLY_ADDED:
                    wanted = ["id"]
                rows = await tx.fetch_all(f"SELECT {', '.join(wanted)} FROM {table}")
                found[table] = sorted(
                    row for row in map(repr, rows) if not row[1:].startswith(_MARKS)
                )
            found["held"] = [
                repr((row[0], await usage.current(tx, row[0])))
                for row in await tx.fetch_all("SELECT id FROM organisations ORDER BY id")
            ]
        return found

    tables = {
        table: columns
        for table, columns in _columns_of(registry).items()
        if _VOLATILE.get(table) != "*"
    }
    return registry.ask(read)


def difference(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows that are not in both, by table."""
    found = {}
    for table in before.keys() | after.keys():
        changed = set(before[table]) ^ set(after[table])
        if changed:
            found[table] = sorted(changed)
    return found
