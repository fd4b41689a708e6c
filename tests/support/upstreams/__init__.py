"""Other registries, played on loopback: what we pull through, and everything that goes wrong there.

Written from the specifications and the providers' documentation, apart from the client that is
tested against it. Every server is a real one on a free port, runs in a thread of its own
(`with server.running():`) or in the loop of the test (`async with server.serving():`), may be
stopped and started again at the same address, and writes down each request that it got.
"""

from tests.support.upstreams import faults
from tests.support.upstreams.content import Content, Image
from tests.support.upstreams.credentials import (
    BasicLogin,
    BearerLogin,
    NoLogin,
    Realm,
    RealmServer,
)
from tests.support.upstreams.log import AccessLog, Entry
from tests.support.upstreams.scripted import BlobHost, ScriptedUpstream, bearer_upstream, realm_of
from tests.support.upstreams.wire import Gate, Reply, Request, WireServer

__all__ = [
    "AccessLog",
    "BasicLogin",
    "BearerLogin",
    "BlobHost",
    "Content",
    "Entry",
    "Gate",
    "Image",
    "NoLogin",
    "Realm",
    "RealmServer",
    "Reply",
    "Request",
    "ScriptedUpstream",
    "WireServer",
    "bearer_upstream",
    "faults",
    "realm_of",
]
