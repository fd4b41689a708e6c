"""Each fault as a plain client sees it, in front of a server that says everything again."""

import asyncio
import socket
import threading
import time

import pytest

from tests.support.eventually import eventually
from tests.support.fault_proxy import Cut, FaultProxy, Line
from tests.support.listener import Listener
from tests.support.upstreams.silent import refusing


class Echo(Listener):
    """Says what it hears, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []

    async def exchange(self, reader, writer):
        self.heard.append(b"")
        number = len(self.heard) - 1
        while piece := await reader.read(65536):
            self.heard[number] += piece
            writer.write(piece)
            await writer.drain()
        return False


@pytest.fixture
def echo():
    with Echo().running() as echo:
        yield echo


@pytest.fixture
def proxy(echo):
    with FaultProxy(echo.host, echo.port).running() as proxy:
        yield proxy


@pytest.fixture
def connect(proxy):
    made = []

    def connect() -> socket.socket:
        made.append(socket.create_connection((proxy.host, proxy.port), timeout=10))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def read(client: socket.socket, count: int = 1 << 20) -> bytes:
    """So many bytes, or all that come."""
    got = b""
    while len(got) < count and (piece := client.recv(count - len(got))):
        got += piece
    return got


def is_silent(client: socket.socket) -> bool:
    """Whether a connection is open and nothing comes; 0.2 s is forever on loopback."""
    client.settimeout(0.2)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True


def test_without_a_fault_everything_passes_and_is_counted(proxy, echo, connect):
    client = connect()
    content = bytes(range(256)) * 4096

    writing = threading.Thread(target=client.sendall, args=(content,))
    writing.start()
    got = read(client, len(content))
    writing.join()
    client.shutdown(socket.SHUT_WR)

    assert got == content
    assert read(client) == b""
    (connection,) = proxy.connections
    assert connection.passed == {"up": len(content), "down": len(content)}
    assert connection.ending is None


def test_a_connection_closes_after_so_many_bytes_up(proxy, echo, connect):
    proxy.plan(Cut("up", after=5))
    client = connect()

    client.sendall(b"0123456789")

    assert b"01234".startswith(read(client))  # the end may overtake the answer
    assert proxy.connections[0].ending == "close"
    eventually(lambda: echo.heard == [b"01234"])


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_connection_ends_after_so_many_bytes_down(proxy, connect, ending):
    proxy.plan(Cut("down", after=5, ending=ending))
    client = connect()

    client.sendall(b"0123456789")

    assert read(client, 5) == b"01234"
    if ending == "reset":
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    else:
        assert client.recv(1) == b""


def test_a_connection_that_hangs_is_open_and_silent(proxy, connect):
    proxy.plan(Cut("down", after=5, ending="hang"))
    client = connect()

    client.sendall(b"0123456789")

    assert read(client, 5) == b"01234"
    assert is_silent(client)
    client.sendall(b"more")


def test_a_word_that_never_arrives(proxy, echo, connect):
    proxy.plan(Cut("up", at=b"COMMIT"))
    client = connect()

    client.sendall(b"INSERT; COM")
    assert read(client, 8) == b"INSERT; "
    client.sendall(b"MIT; more")

    read(client)
    assert echo.heard[0] == b"INSERT; COM"


def test_a_word_that_arrives_and_whose_answer_does_not(proxy, echo, connect):
    proxy.plan(Cut("up", at=b"COMMIT", answered=True, ending="reset"))
    client = connect()

    client.sendall(b"INSERT; ")
    assert read(client, 8) == b"INSERT; "
    client.sendall(b"COMMIT; ")

    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.heard[0] == b"INSERT; COMMIT; "


def test_only_the_connections_that_were_planned_are_cut(proxy, connect):
    proxy.plan(Cut("down", after=1), nth=2, times=2)

    got = []
    for _ in range(4):
        client = connect()
        client.sendall(b"word")
        client.shutdown(socket.SHUT_WR)
        got.append(read(client))

    assert got == [b"word", b"w", b"w", b"word"]
    assert [c.cut is None for c in proxy.connections] == [True, False, False, True]


@pytest.mark.parametrize("ending", ["close", "reset", "hang"])
def test_all_connections_of_a_moment_end_and_new_ones_work(proxy, connect, ending):
    clients = [connect() for _ in range(3)]
    for client in clients:
        client.sendall(b"word")
        assert read(client, 4) == b"word"

    proxy.cut(ending)

    for client in clients:
        if ending == "close":
            assert client.recv(1) == b""
        elif ending == "reset":
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            client.sendall(b"word")
            assert is_silent(client)
    late = connect()
    late.sendall(b"word")
    assert read(late, 4) == b"word"


def test_a_stopped_proxy_refuses_connections_until_it_is_started(proxy, connect):
    before = connect()
    before.sendall(b"word")
    assert read(before, 4) == b"word"

    proxy.stop()

    with pytest.raises(ConnectionRefusedError):
        connect()
    assert read(before) == b""
    proxy.start()
    after = connect()
    after.sendall(b"word")
    assert read(after, 4) == b"word"


def test_latency_is_waited_for_each_piece(proxy, connect):
    proxy.line = Line(latency=0.1)
    client = connect()

    began = time.monotonic()
    for _ in range(3):
        client.sendall(b"word")
        assert read(client, 4) == b"word"

    assert time.monotonic() - began >= 0.6  # there and back


def test_jitter_is_the_same_for_the_same_seed(echo):
    def waited(seed: int) -> float:
        with FaultProxy(echo.host, echo.port, seed=seed).running() as proxy:
            proxy.line = Line(jitter=0.01)
            with socket.create_connection((proxy.host, proxy.port), timeout=10) as client:
                for _ in range(3):
                    client.sendall(b"word")
                    read(client, 4)
            return proxy.connections[0].waited

    assert waited(1) == waited(1) != waited(2)


def test_a_slow_line_keeps_to_its_rate(proxy, connect):
    proxy.line = Line(rate=100_000)
    client = connect()

    began = time.monotonic()
    client.sendall(bytes(30_000))
    got = read(client, 30_000)

    assert len(got) == 30_000
    assert time.monotonic() - began >= 0.3


def test_a_server_that_is_not_there_resets():
    with refusing() as address:
        host, _, port = address.partition(":")
        with FaultProxy(host, int(port)).running() as proxy:
            proxied = (proxy.host, proxy.port)

            # As early as that: the reset may come before we know that we were let in.
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection(proxied, timeout=10) as client,
            ):
                client.recv(1)


async def test_it_also_runs_in_the_loop_of_a_test():
    async with Echo().serving() as echo, FaultProxy(echo.host, echo.port).serving() as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"word")
        assert await reader.readexactly(4) == b"word"

        proxy.cut("close")

        assert await reader.read() == b""
        writer.close()
