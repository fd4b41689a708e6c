from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

import pytest

from entrepot.model.upstreams import Auth, Handshake, NoAuth, Observation
from entrepot.upstream.outbound import Deadlines, Outbound
from entrepot.upstream.remote import Remote
from tests.support.clock import FakeClock
from tests.support.upstreams.fixtures import blob_host, token_upstream, upstream

__all__ = ["blob_host", "token_upstream", "upstream"]

LOOPBACK = (ip_network("127.0.0.0/8"),)
# Short, and long enough for a busy machine to answer.
QUICK = Deadlines(connect=0.5, headers=0.3, idle=0.3, body=0.8, window=0.3, slowest=1 << 20)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def client_of():
    """Makes clients with settings of their own."""
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> Outbound:
            client = Outbound(**settings)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
def outbound(client_of):
    return client_of(allow=LOOPBACK)


@pytest.fixture
def impatient(client_of):
    return client_of(allow=LOOPBACK, deadlines=QUICK)


@pytest.fixture
def observations() -> list[Observation]:
    return []


@pytest.fixture
def remote_of(outbound, clock, observations):
    """Makes the remote of a played upstream."""

    def make(
        server,
        auth: Auth | None = None,
        handshake: Handshake | None = None,
        preset: str = "custom",
        client: Outbound | None = None,
    ) -> Remote:
        return Remote(
            client or outbound,
            "hub",
            server.origin,
            handshake,
            auth or NoAuth(),
            preset,
            clock,
            observations.append,
        )

    return make
