"""A body that does not get to its end is seen as incomplete, whichever server sends it."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.server import free_port
from tests.web.breaking import SENT

ROOT = Path(__file__).parents[2]
SERVERS = {
    "granian": ["granian", "--interface", "asgi", "--loop", "uvloop", "--port"],
    "uvicorn": ["uvicorn", "--port"],
    "uvicorn with h11": ["uvicorn", "--http", "h11", "--port"],
}


@pytest.fixture(scope="module", params=SERVERS)
def port(request, tmp_path_factory):
    port = free_port()
    program, *options = SERVERS[request.param]
    command = [str(Path(sys.executable).with_name(program)), *options, str(port)]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "tests.web.breaking:app"], cwd=ROOT, stdout=output, stderr=output
        )
    try:
        _wait_until_there(process, port, log)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_there(process, port, log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)  # it has no other way to tell
    raise RuntimeError(log.read_text())


def get(port, path):
    """Headers and body as they crossed the wire, until the server closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = bytearray()
        while piece := connection.recv(65536):
            received += piece
    headers, _, body = bytes(received).partition(b"\r\n\r\n")
    return headers.lower(), body


def test_fewer_bytes_come_than_were_announced(port):
    headers, body = get(port, "/known")

    assert headers.startswith(b"http/1.1 200")
    assert b"content-length: 1000000" in headers
    assert body == b"x" * SENT


def test_the_chunk_that_would_end_the_body_never_comes(port):
    headers, body = get(port, "/unknown")

    assert b"transfer-encoding: chunked" in headers
    assert body.count(b"x") == SENT
    assert not body.endswith(b"0\r\n\r\n")


def test_a_whole_body_is_complete(port):
    headers, body = get(port, "/whole")
    _, chunked = get(port, "/whole-unknown")

    assert b"content-length: 300000" in headers
    assert body == b"x" * SENT
    assert chunked.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
def test_over_http2_the_stream_is_reset(port, request):
    if "granian" not in request.node.name:
        return  # uvicorn speaks HTTP/1 alone
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-m", "20", f"http://127.0.0.1:{port}/unknown"],
        capture_output=True,
        check=False,
    )

    assert done.returncode != 0
    assert done.stdout.count(b"x") <= SENT
