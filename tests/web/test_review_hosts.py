"""Nothing that anybody can send at will is kept, or said again where it does not belong."""

import tracemalloc

import pytest

from entrepot.oci.routes import ROUTES
from entrepot.web.hosts import Hosts
from entrepot.web.requests import Request
from entrepot.web.routing import Router

_MANY = 2_000
_LONG = 30_000


async def _nothing():
    return {"type": "http.disconnect"}


def request_to(host):
    scope = {"method": "GET", "path": "/v2/", "headers": [(b"host", host)]}
    return Request(scope, _nothing)


@pytest.fixture
def hosts():
    return Hosts(public_url="https://registry.example.com", listen="127.0.0.1:5000", is_tls=False)


@pytest.mark.parametrize(
    "host",
    [
        b"localhost:5000@evil.example",
        b"localhost:5000/evil",
        b'localhost:"',
        b'a".registry.example.com',
        b"\xe9.registry.example.com",
        b"registry.example.com:5000,x",
        b"127.0.0.1:",
        b"[::1]x",
        b"a" * 300 + b".registry.example.com",
    ],
)
def test_a_host_that_is_none_is_not_repeated(hosts, host):
    assert hosts.origin(request_to(host)) == "https://registry.example.com"
    assert hosts.names(request_to(host)) == (None, "registry.example.com")


@pytest.mark.parametrize(
    ("host", "label"),
    [
        (b"registry.example.com", None),
        (b"Registry.Example.Com:8443", None),
        (b"acme.registry.example.com", "acme"),
        (b"localhost:5000", None),
        (b"127.0.0.1:5000", None),
        (b"[::1]:5000", None),
    ],
)
def test_a_host_that_we_know_is(hosts, host, label):
    assert hosts.names(request_to(host)) == (label, host.decode().lower())


def test_long_hosts_and_paths_are_not_remembered(hosts):
    router = Router(ROUTES)
    tracemalloc.start()
    try:
        for number in range(_MANY):
            hosts.names(request_to(b"%d" % number + b"x" * _LONG))
            router.find(f"/v2/{'x' * _LONG}{number}/manifests/v1")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 4_000_000
