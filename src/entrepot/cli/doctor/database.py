"""The database: whether it lets us in, has our schema, room for our connections, and our time."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

from entrepot.cli.data_folder import require_existing
from entrepot.cli.doctor.clocks import skew
from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings, is_loopback
from entrepot.db import vitals
from entrepot.db.database import Database
from entrepot.db.migrate import HEAD
from entrepot.db.reach import require_reachable
from entrepot.db.vitals import ServerVitals
from entrepot.model.clock import Clock

PART = Part("database")
_NODES = Part("nodes")


async def require(settings: Settings) -> None:
    """Raises StartRefused unless there is a database, and it lets us in."""
    require_existing(settings)
    await require_reachable(settings.database.url, patience=0)


async def examine(settings: Settings, database: Database, clock: Clock) -> AsyncIterator[Finding]:
    """What an open database is. Raises Unavailable, StorageFailed."""
    if settings.database.sqlite_file is not None:
        async with database.read() as tx:
            version = await vitals.find_sqlite_version(tx)
            schema = _schema(await vitals.find_schema(tx))
        yield PART.ok(f"SQLite {version}, {schema}, {settings.database.sqlite_file}")
        return
    async with database.read() as tx:
        before = clock.now()
        server = await vitals.ask_server(tx)
        after = clock.now()
        schema = _schema(await vitals.find_schema(tx))
    for finding in (*_server(settings, server, schema), *_nodes(settings, server)):
        yield finding
    yield skew("the database", server.now, before, after)


def _schema(found: str) -> str:
    return f"schema {found}" if found == HEAD else f"schema {found} (this program made {HEAD})"


def _server(settings: Settings, server: ServerVitals, schema: str) -> Iterator[Finding]:
    wanted = settings.workers * settings.database.pool_size
    nodes = max(1, server.nodes)
    total = f"{nodes} nodes may open {nodes * wanted}" if nodes > 1 else f"we may open {wanted}"
    room = f"it takes {server.connections} connections, {server.in_use} are open, {total}"
    if nodes * wanted > server.connections:
        yield PART.warning(
            room,
            "lower ENTREPOT_DATABASE__POOL_SIZE or ENTREPOT_WORKERS, raise max_connections of the"
            " server, or put PgBouncer in between",
        )
    if not server.is_durable:
        yield PART.warning(
            "the server does not wait for its disk: a crash of its machine loses what was"
            " acknowledged, and may damage all of it",
            "set fsync = on and full_page_writes = on in its postgresql.conf, and reload it",
        )
    yield PART.ok(f"PostgreSQL {server.version}, {schema}; {room}")


def _nodes(settings: Settings, server: ServerVitals) -> Iterator[Finding]:
    """Several nodes that cannot reach each other fetch the same blob each for itself."""
    url = settings.node.url
    host = urlsplit(url).hostname or ""
    if url and is_loopback(host) and server.nodes > 1:
        yield _NODES.error(
            f"{server.nodes} nodes share the database, and {url} is no address for the others",
            "set ENTREPOT_NODE__URL to this node's address as they reach it, such as"
            " http://10.0.0.5:5000",
        )
    elif not url and server.nodes > 1:
        yield _NODES.warning(
            f"{server.nodes} nodes share the database, and this one does not say how the others"
            " reach it: each fetches what it needs from upstreams by itself",
            "set ENTREPOT_NODE__URL on every node, such as http://10.0.0.5:5000",
        )
    elif url and is_loopback(settings.host) and not is_loopback(host):
        yield _NODES.error(
            f"others are to reach this node at {url}, and it listens on {settings.host},"
            " where they cannot",
            "set ENTREPOT_HOST to an address of that network, or to 0.0.0.0",
        )
    elif url:
        yield _NODES.ok(f"others reach this one at {url}")
