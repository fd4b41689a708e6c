"""Nodes that share PostgreSQL and an object store, on one machine."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.caching import secret_key
from bench.row import Place
from bench.servers import Entrepot
from bench.servers.ceph import running_ceph, settings_of
from bench.servers.postgres import running_postgres
from bench.servers.process import free_port
from bench.servers.server import Server
from tests.support.bucket import Bucket


@dataclass(frozen=True, slots=True)
class Nodes:
    """They know one token, that of the first start."""

    servers: Sequence[Server]
    bucket: Bucket
    authorization: str


@contextmanager
def running_nodes(place: Place, *each: Mapping[str, str]) -> Iterator[Nodes]:
    """Run one node for each of these settings, until the block ends."""
    with ExitStack() as stack:
        place.say("starting PostgreSQL and Ceph")
        common = {
            **place.settings,
            "DATABASE__URL": stack.enter_context(running_postgres()),
            "SECRET_KEY": secret_key(),
        }
        bucket = stack.enter_context(running_ceph())
        common |= settings_of(bucket)
        servers = []
        for number, own in enumerate(each):
            port = free_port()
            settings = {**common, "NODE__URL": f"http://127.0.0.1:{port}", **own}
            node = Entrepot(place.folder / f"node-{number}", settings, port)
            servers.append(stack.enter_context(node.running()))
        yield Nodes(servers, bucket, servers[0].authorize([]))
