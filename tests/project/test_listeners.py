"""A listener that stops leaves nothing open: the garbage would fail whatever test is running then."""

import gc
import socket
import ssl
import warnings

import pytest
import trustme

from tests.support.fault_proxy import FaultProxy
from tests.support.listener import Listener
from tests.support.s3_proxy import S3Proxy
from tests.support.upstreams.silent import mute

_MUCH = bytes(64 << 20)  # more than sockets hold
_PUT = b"PUT /bucket/key HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(_MUCH)


@pytest.fixture
def nothing_left():
    """Say what is still open in the end."""
    gc.collect()
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [str(warning.message) for warning in left]


@pytest.fixture
def deaf():
    """Host and port of a server that takes no bytes."""
    with mute() as address:
        host, _, port = address.partition(":")
        yield host, int(port)


def fill(listener, content):
    """Send until nobody takes any more, which 0.5 s show, and stop it then."""
    with socket.create_connection((listener.host, listener.port), timeout=0.5) as client:
        with pytest.raises(TimeoutError):
            client.sendall(content)
        listener.stop()


def test_a_proxy_of_connections_whose_server_takes_no_more(nothing_left, deaf):
    with FaultProxy(*deaf).running() as proxy:
        fill(proxy, _MUCH)


def test_a_proxy_of_requests_whose_server_takes_no_more(nothing_left, deaf):
    host, port = deaf
    with S3Proxy(f"http://{host}:{port}").running() as proxy:
        fill(proxy, _PUT + _MUCH)


def test_a_handshake_that_never_ends(nothing_left):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with (
        Listener(tls=context).running() as listener,
        socket.create_connection((listener.host, listener.port)),
    ):
        listener.stop()
