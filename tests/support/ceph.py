"""A real S3 server for tests: Ceph's gateway on one monitor and one disk of a folder's files.

Everything is in that folder and on loopback; inside, nobody has to prove who he is, and the gateway
checks keys and signatures as S3 does.
"""

import http.client
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.bucket import ObjectServer
from tests.support.programs import need

_PACKAGES = "radosgw ceph-mon ceph-osd"
_PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "monmaptool", "radosgw-admin")
_START_SECONDS = 120.0
_DISK_BYTES = 64 * 1024**3  # of a sparse file
# Below those that Linux gives to whoever asks for any, so that nobody takes one between our look
# and the start; above those that Ceph's disks take.
_PORTS = range(20_000, 32_000)

_CONFIGURATION = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = {monitor}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# The gateway wants it secure otherwise, which it cannot be where nobody proves who he is.
ms_mon_client_mode = crc
run_dir = {folder}
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd

# One copy on one disk of one machine, and few parts of it.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
# Changes are decided one after the other, not gathered for a second each.
paxos_propose_interval = 0.05
mon_warn_on_pool_no_redundancy = false
bluestore_block_size = {disk_bytes}
osd_memory_target = 939524096
mon_data_avail_crit = 1

[client.gateway]
rgw_data = {folder}
# Without a wait for what might yet be sent with an answer: 40 ms for each that has a body.
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_enable_apis = s3
# What was deleted gives its room back within seconds, not hours.
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
"""


@contextmanager
def running_ceph(*, disk_bytes: int = _DISK_BYTES) -> Iterator[ObjectServer]:
    """Start one on free ports, wait until it answers, stop it in the end. Skips without Ceph.

    `disk_bytes` is what it takes of the machine's disk at most: what was deleted there need not be
    the first that is written to again.
    """
    for program in _PROGRAMS:
        need(program, _PACKAGES)
    # A short path: a socket's name has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="entrepot-ceph-"))
    ceph = _Ceph(folder, disk_bytes)
    try:
        yield ceph.start()
    finally:
        ceph.stop()
        shutil.rmtree(folder, ignore_errors=True)


class _Ceph:
    """The processes of one, in the order of their start."""

    def __init__(self, folder: Path, disk_bytes: int) -> None:
        self._folder = folder
        self._disk_bytes = disk_bytes
        self._configuration = folder / "ceph.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> ObjectServer:
        """Start the monitor, the disk and the gateway, and make the one user."""
        port, *monitor_ports = _free_ports(3)
        fsid, disk = str(uuid.uuid4()), str(uuid.uuid4())
        monitor = "[v2:127.0.0.1:{},v1:127.0.0.1:{}]".format(*monitor_ports)
        self._configuration.write_text(
            _CONFIGURATION.format(
                fsid=fsid,
                monitor=monitor,
                folder=self._folder,
                port=port,
                disk_bytes=self._disk_bytes,
            )
        )
        for name in ("mon", "osd"):
            (self._folder / name).mkdir()
        monitors = str(self._folder / "monitors")
        _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monitors)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors)
        self._spawn("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", disk)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._spawn("ceph-osd", "-i", "0")
        server = ObjectServer(
            f"http://127.0.0.1:{port}", secrets.token_hex(10).upper(), secrets.token_hex(20)
        )
        self._spawn("radosgw", "-n", "client.gateway")
        self._make_user(server)
        self._wait_until_it_answers(port)
        return server

    def stop(self) -> None:
        """Kill them, the gateway first: nothing of theirs is needed any more."""
        for daemon in reversed(self._daemons):
            daemon.kill()
        for daemon in self._daemons:
            daemon.wait()

    def _make_user(self, server: ObjectServer) -> None:
        self._run(
            *("radosgw-admin", "-n", "client.gateway", "user", "create"),
            *("--uid", "tests", "--display-name", "tests", "--max-buckets", "0"),
            *("--access-key", server.access_key_id, "--secret-key", server.secret_access_key),
        )

    def _spawn(self, program: str, *words: str) -> None:
        with (self._folder / "output").open("ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    # They end with us, however we end.
                    ["setpriv", "--pdeathsig", "KILL", *self._command(program, *words), "-f"],
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            )

    def _run(self, program: str, *words: str) -> None:
        try:
            _run(*self._command(program, *words))
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self._logs()}") from error

    def _command(self, program: str, *words: str) -> list[str]:
        return [program, "-c", str(self._configuration), *words]

    def _wait_until_it_answers(self, port: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if any(daemon.poll() is not None for daemon in self._daemons):
                break
            with suppress(OSError):
                if _answers(port):
                    return
            time.sleep(0.05)  # it has no other way to tell
        raise RuntimeError(f"Ceph did not start:\n{self._logs()}")

    def _logs(self) -> str:
        logs = [*sorted(self._folder.glob("*.log")), self._folder / "output"]
        return "\n".join(
            f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}"
            for log in logs
            if log.exists()
        )


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()


def _run(*command: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_START_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout.decode(errors='replace')}")


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    # Not the generator that a test run may have seeded: two runs would look at the same ports.
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found
