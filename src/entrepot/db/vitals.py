"""What a database says of itself, each of the two kinds in words of its own."""

from dataclasses import dataclass

from entrepot.db.database import Transaction


@dataclass(frozen=True, slots=True)
class ServerVitals:
    """A PostgreSQL server: its version, its clock in µs, whether it waits for its disk.

    `connections` are those that users like ours may have at once, `in_use` those that there are;
    `nodes` is from how many addresses ours come.
    """

    version: str
    now: int
    is_durable: bool
    connections: int
    in_use: int
    nodes: int


async def find_schema(tx: Transaction) -> str:
    """The revision that it is at."""
    row = await tx.fetch_one("SELECT version_num FROM alembic_version")
    return str(row[0]) if row else "none"


async def find_sqlite_version(tx: Transaction) -> str:
    """The version of the library."""
    row = await tx.fetch_one("SELECT sqlite_version()")
    return str(row[0]) if row else ""


async def ask_server(tx: Transaction) -> ServerVitals:
    """What PostgreSQL says. Its own row in pg_stat_activity is one of ours."""
    row = await tx.fetch_one(
        """
        SELECT current_setting('server_version'),
               CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT),
               current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
               CAST(current_setting('max_connections') AS BIGINT)
                   - CAST(current_setting('superuser_reserved_connections') AS BIGINT),
               (SELECT COALESCE(SUM(numbackends), 0) FROM pg_stat_database),
               (SELECT COUNT(DISTINCT COALESCE(host(client_addr), ''))
                  FROM pg_stat_activity
                 WHERE application_name = 'entrepot'
                   AND datname = current_database()
                   AND usename = current_user)
        """
    )
    if row is None:
        raise AssertionError
    version, now, is_durable, connections, in_use, nodes = row
    return ServerVitals(
        version=str(version).partition(" ")[0],
        now=int(now or 0),
        is_durable=bool(is_durable),
        connections=int(connections or 0),
        in_use=int(in_use or 0),
        nodes=int(nodes or 0),
    )
