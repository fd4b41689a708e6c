import base64
import contextlib
import hashlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from tests.support.eventually import eventually

pytestmark = pytest.mark.slow  # servers of its own

SECONDS = 30.0  # more than anything here takes, on a busy machine too
ENTREPOT = Path(sys.executable).with_name("entrepot")


class Server:
    """`entrepot serve`, around the stub app unless told otherwise, on a free port."""

    def __init__(self, data: Path, *command: str, **settings: str) -> None:
        defaults = {
            "ENTREPOT_DATA": str(data),
            "ENTREPOT_PORT": "0",
            "ENTREPOT_WORKERS": "1",  # tests tell workers apart
        }
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by end()
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "tests.cli.stub"],
            env=environment(**defaults | settings),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        self.start_lines: list[str] = []
        while len(self.start_lines) < 3:  # address, data, and a first line of the app
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if not line:
                said = self.logged()
                self.end()
                raise AssertionError(said)
            self.start_lines.append(line.rstrip("\n"))
        self.port = int(self.start_lines[0].rpartition(":")[2])

    def get(self, path: str, tls: ssl.SSLContext | None = None) -> bytes:
        with contextlib.closing(self.connect(tls)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def connect(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        if tls:
            return http.client.HTTPSConnection("localhost", self.port, timeout=SECONDS, context=tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def wait(self) -> int:
        return self.process.wait(SECONDS)

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def end(self) -> None:
        self.process.kill()  # the workers go with it
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(data):
    with contextlib.ExitStack() as stack:

        def _start(**settings: str) -> Server:
            server = Server(data, **settings)
            stack.callback(server.end)
            return server

        yield _start


@pytest.fixture
def server(start) -> Server:
    return start()


def environment(**settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}
    return plain | settings


def serve_refused(*arguments: str, **settings: str) -> str:
    """What `entrepot serve` says when it will not start."""
    done = subprocess.run(
        [ENTREPOT, "serve", *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def is_refused(server: Server) -> bool:
    """Whether nobody takes new connections any more."""
    with contextlib.suppress(ConnectionResetError, http.client.RemoteDisconnected):
        try:
            server.get("/pid")
        except ConnectionRefusedError:
            return True
    return False


@contextlib.contextmanager
def downloading(server: Server, halves: int, tls: ssl.SSLContext | None = None) -> Iterator:
    """A download of some half seconds whose answer has begun; gives its future body."""
    with ThreadPoolExecutor() as pool, contextlib.closing(server.connect(tls)) as connection:
        connection.request("GET", f"/slow?{halves}")
        response = connection.getresponse()
        yield pool.submit(response.read)


def test_a_start_says_where_and_with_what_data(server, data):
    assert re.fullmatch(r"entrepot \S+ on http://127\.0\.0\.1:\d+", server.start_lines[0])
    assert server.start_lines[1] == f"data in {data}"


def test_a_busy_port_names_the_process_and_the_way_out(data):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = serve_refused("--port", str(port), "--data", str(data))

    assert f"port {port} is taken by " in said
    assert f"(pid {os.getpid()})" in said
    assert "--port N" in said


def test_a_second_server_on_the_same_data_is_refused_with_the_pid(server, data):
    said = serve_refused("--port", "0", "--data", str(data))

    assert f"pid {server.process.pid}" in said


def test_an_unknown_setting_is_refused_with_a_suggestion(data):
    said = serve_refused("--data", str(data), ENTREPOT_DATABSE__URL="sqlite:///x.db")

    assert "unknown setting ENTREPOT_DATABSE__URL in the environment" in said
    assert "did you mean ENTREPOT_DATABASE__URL?" in said


def test_a_world_readable_key_is_refused(data, tmp_path):
    key = tmp_path / "key.pem"
    key.touch(0o644)

    said = serve_refused(
        "--data", str(data), ENTREPOT_TLS__CERT_FILE=str(key), ENTREPOT_TLS__KEY_FILE=str(key)
    )

    assert f"chmod 600 {key}" in said


def test_sigterm_lets_a_download_finish_and_takes_no_new_connection(server):
    with downloading(server, halves=4) as body:
        server.process.send_signal(signal.SIGTERM)

        eventually(lambda: is_refused(server))
        assert not body.done()
        assert len(body.result()) == 4000
    assert server.wait() == 0


def test_sigterm_does_not_wait_for_idle_connections(server):
    with contextlib.closing(server.connect()) as idle:
        idle.request("GET", "/pid")
        idle.getresponse().read()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(5) == 0


def test_a_transfer_longer_than_the_shutdown_limit_is_cut_off(start):
    server = start(ENTREPOT_SHUTDOWN_SECONDS="1")

    with downloading(server, halves=60) as body:
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(10) == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            body.result()


def test_a_second_interrupt_ends_at_once(server):
    with downloading(server, halves=60) as body:
        server.process.send_signal(signal.SIGINT)
        eventually(lambda: is_refused(server))
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(2) == 130
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            body.result()


def test_ctrl_c_reaches_the_whole_group_and_still_lets_a_download_finish(server):
    with downloading(server, halves=2) as body:
        os.killpg(server.process.pid, signal.SIGINT)

        assert len(body.result()) == 2000
    assert server.wait() == 0


def test_four_workers_answer_and_a_crashed_one_is_replaced(start):
    server = start(ENTREPOT_WORKERS="4")
    seen: set[bytes] = set()

    def has_seen(count: int) -> bool:
        seen.add(server.get("/pid"))
        return len(seen) == count

    eventually(lambda: has_seen(4))

    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        server.get("/crash")

    eventually(lambda: "worker.crashed" in server.logged())
    eventually(lambda: has_seen(5))


def test_workers_do_not_outlive_a_killed_parent(start):
    server = start(ENTREPOT_WORKERS="2")

    server.process.kill()

    eventually(lambda: is_refused(server))


def test_a_port_is_free_again_at_once(server, start):
    with downloading(server, halves=1) as body:
        body.result()
    server.process.send_signal(signal.SIGTERM)
    server.wait()

    assert start(ENTREPOT_PORT=str(server.port)).port == server.port


@pytest.fixture
def registry(data):
    server = Server(data, str(ENTREPOT), "serve", ENTREPOT_WORKERS="2")
    yield server
    server.end()


def test_the_registry_serves_its_first_pull_to_the_end_while_it_stops(registry, data):
    content = os.urandom(1 << 20) * 64
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    token = base64.b64encode(b"x-token:" + (data / "admin.token").read_bytes().strip()).decode()
    headers = {"Authorization": f"Basic {token}"}

    with contextlib.closing(registry.connect()) as connection:
        connection.request("POST", f"/v2/app/blobs/uploads/?digest={digest}", content, headers)
        pushed = connection.getresponse()
        assert pushed.status == 201, pushed.read()
        pushed.read()
        connection.request("GET", f"/v2/app/blobs/{digest}", headers=headers)
        pull = connection.getresponse()
        begun = pull.read(1 << 20)

        registry.process.send_signal(signal.SIGTERM)
        eventually(lambda: is_refused(registry))

        assert begun + pull.read() == content
    assert registry.wait() == 0


def test_the_registry_says_what_to_type_and_shows_no_token_to_a_pipe(registry, data):
    registry.process.send_signal(signal.SIGTERM)
    registry.wait()

    said = "\n".join([*registry.start_lines, registry.process.stdout.read()])
    assert said.count("docker login") == 1
    assert (data / "admin.token").read_text().strip() not in said
    assert (data / "entrepot.db").stat().st_mode & 0o007 == 0


class Certificate:
    """A certificate of its own authority, written where the server reads it."""

    def __init__(self, folder: Path) -> None:
        self.cert_file, self.key_file = folder / "cert.pem", folder / "key.pem"
        self.renew()

    def renew(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        self.key_file.touch(0o600)
        self.key_file.write_bytes(issued.private_key_pem.bytes())
        self.cert_file.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@pytest.fixture
def certificate(tmp_path) -> Certificate:
    return Certificate(tmp_path)


@pytest.fixture
def tls_server(data, certificate):
    server = Server(
        data,
        ENTREPOT_HOST="localhost",
        ENTREPOT_TLS__CERT_FILE=str(certificate.cert_file),
        ENTREPOT_TLS__KEY_FILE=str(certificate.key_file),
    )
    yield server
    server.end()


def test_a_changed_certificate_is_served_while_transfers_under_the_old_one_finish(
    tls_server, certificate
):
    before = tls_server.get("/pid", certificate.client)

    with downloading(tls_server, halves=20, tls=certificate.client) as body:
        certificate.renew()

        def taken() -> bool:
            # Never refused and never reset: at every moment one of the two is served.
            with contextlib.suppress(ssl.SSLCertVerificationError):
                return tls_server.get("/pid", certificate.client) != before
            return False

        eventually(taken)
        assert not body.done()
        assert len(body.result()) == 20_000


def test_a_certificate_that_does_not_fit_its_key_is_not_taken(tls_server, certificate):
    before = tls_server.get("/pid", certificate.client)
    certificate.key_file.write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes())

    eventually(lambda: "certificate.refused" in tls_server.logged())

    assert tls_server.get("/pid", certificate.client) == before
