"""Where nothing answers, it does not in the way that it says."""

import socket
import ssl

import pytest

from tests.support.upstreams.silent import Canary, mute, refusing, unreachable


def connect(address, seconds=0.2):
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def test_connecting_never_ends():
    with unreachable() as address, pytest.raises(TimeoutError):
        connect(address)


def test_a_handshake_never_ends():
    with mute() as address, connect(address) as plain, pytest.raises(TimeoutError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_a_connection_is_refused():
    with refusing() as address, pytest.raises(ConnectionRefusedError):
        connect(address)


def test_a_canary_counts_its_visits():
    with Canary().listening() as canary:
        connect(f"127.0.0.1:{canary.port}").close()

    assert canary.visits == 1
