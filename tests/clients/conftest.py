"""One registry, the images, and each client's program, for all tests of real clients."""

import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.debian_suite import Unobtainable, unpack
from tests.support.docker_engine import running_engine
from tests.support.images import Image, Layout
from tests.support.programs import Program, find, need, need_mounts
from tests.support.server import Client, Server, running_server

STABLE = ("docker.io", "docker-cli", "docker-buildx", "containerd", "oras", "cosign")
NEWEST = ("docker.io", "docker-cli", "docker-buildx", "containerd", "crane", "notation")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slow)


@dataclass(slots=True)
class Registry:
    """The registry under test, and what is in it as plain HTTP tells."""

    server: Server
    http: Client

    @property
    def host(self) -> str:
        """As clients name it; every one takes `localhost` as itself."""
        return f"localhost:{self.server.port}"

    @property
    def token(self) -> str:
        return self.server.token

    @property
    def credentials(self) -> str:
        return f"x-token:{self.token}"

    def digest(self, name: str, reference: str) -> str:
        """What a reference names."""
        answer = self.http.request("HEAD", f"/v2/{name}/manifests/{reference}")
        assert answer.status_code == 200, f"{name}:{reference} is {answer.status_code}"
        return answer.headers["docker-content-digest"]

    def manifest(self, name: str, reference: str) -> dict:
        """A manifest, its digest checked."""
        answer = self.http.request("GET", f"/v2/{name}/manifests/{reference}")
        assert answer.status_code == 200, f"{name}:{reference} is {answer.status_code}"
        digest = answer.headers["docker-content-digest"]
        assert digest == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        return json.loads(answer.content)

    def check(self, name: str, reference: str) -> str:
        """Read everything under a reference and compare it with its digests; the digest."""
        manifest = self.manifest(name, reference)
        for child in manifest.get("manifests", []):
            if "manifest" in child["mediaType"] or "index" in child["mediaType"]:
                self.check(name, child["digest"])
            else:
                self._check_blob(name, child)
        for descriptor in [manifest.get("config"), *manifest.get("layers", [])]:
            if descriptor:
                self._check_blob(name, descriptor)
        return self.digest(name, reference)

    def _check_blob(self, name: str, descriptor: dict) -> None:
        sha = hashlib.sha256()
        size = 0
        with self.http.http.stream(
            "GET",
            f"/v2/{name}/blobs/{descriptor['digest']}",
            auth=httpx.BasicAuth("x-token", self.token),
        ) as answer:
            assert answer.status_code == 200
            for chunk in answer.iter_raw(1 << 20):
                sha.update(chunk)
                size += len(chunk)
        assert (f"sha256:{sha.hexdigest()}", size) == (descriptor["digest"], descriptor["size"])

    def received(self) -> int:
        """Bytes of requests' bodies so far."""
        text = httpx.get(f"{self.server.url}/metrics").text
        sums = re.findall(r"^entrepot_received_bytes_total\{.*\} (\S+)$", text, re.MULTILINE)
        return sum(int(float(value)) for value in sums)


@pytest.fixture(scope="session")
def registry(tmp_path_factory) -> Iterator[Registry]:
    with running_server(tmp_path_factory.mktemp("registry") / "data") as server:
        client = Client(server, token=server.token)
        yield Registry(server, client)
        client.close()
    shutil.rmtree(server.data, ignore_errors=True)


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Iterator[dict[str, Image]]:
    """`big` is 320 MB in four layers; `small` and `multi` are for what size changes nothing in."""
    folder = tmp_path_factory.mktemp("images") / "layout"
    layout = Layout(folder)
    platforms = ("amd64", "arm64")
    yield {
        "big": layout.add_image("big", megabytes=320, layers=4),
        "small": layout.add_image("small", megabytes=3, layers=3),
        "multi": layout.add_index(
            "multi", megabytes=6, layers=3, shared=1, architectures=platforms
        ),
        "bigmulti": layout.add_index(
            "bigmulti", megabytes=200, layers=4, shared=2, architectures=platforms
        ),
    }
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def big(images) -> Image:
    return images["big"]


@pytest.fixture(scope="session")
def small(images) -> Image:
    return images["small"]


@pytest.fixture(scope="session")
def multi(images) -> Image:
    return images["multi"]


@pytest.fixture(scope="session")
def bigmulti(images) -> Image:
    return images["bigmulti"]


@pytest.fixture(scope="session")
def archives(images, tmp_path_factory) -> Iterator[dict[str, Path]]:
    """The images that engines load: Docker archives that name them NAME:start."""
    folder = tmp_path_factory.mktemp("archives")
    made = {}
    for name in ("big", "small"):
        made[name] = folder / f"{name}.tar"
        Program((str(need("skopeo")),))(
            "copy", images[name].reference, f"docker-archive:{made[name]}:{name}:start"
        )
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def client_home(tmp_path_factory) -> dict[str, str]:
    """An empty home, so that no test reads or leaves settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    (home / "auth.json").write_text("{}")
    (home / "containers.conf").write_text(
        "[containers]\n"
        'default_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n'
        "[engine]\n"
        'runtime="runc"\n'
        'cgroup_manager="cgroupfs"\n'
        'events_logger="file"\n'
    )
    return {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "REGISTRY_AUTH_FILE": str(home / "auth.json"),
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "DOCKER_CONFIG": str(home / "docker"),
    }


@pytest.fixture(scope="session")
def skopeo(registry, client_home) -> Program:
    return Program((str(need("skopeo")),), client_home)


@pytest.fixture(scope="session")
def storage(tmp_path_factory) -> Iterator[tuple[str, ...]]:
    """Where podman and buildah keep their images, apart from those of whoever runs the tests."""
    need_mounts("podman and buildah mount what they unpack")
    folder = tmp_path_factory.mktemp("storage")
    yield ("--root", str(folder / "root"), "--runroot", str(folder / "run"))
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", line.split()[1]], check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def podman(storage, client_home) -> Program:
    return Program((str(need("podman")), *storage), client_home)


@pytest.fixture(scope="session")
def buildah(storage, client_home) -> Program:
    return Program((str(need("buildah")), *storage), client_home)


@pytest.fixture(scope="session")
def stable_suite() -> Path:
    """Docker 26, buildx, oras and cosign."""
    try:
        return unpack("trixie", *STABLE)
    except Unobtainable as error:
        pytest.skip(
            "Docker 26, buildx, oras and cosign are not here: run make test where apt-get reaches "
            f"a Debian mirror that has trixie ({error})"
        )


@pytest.fixture(scope="session")
def newest_suite() -> Path:
    """Docker 28, crane and notation."""
    try:
        return unpack("forky", *NEWEST)
    except Unobtainable as error:
        pytest.skip(
            "Docker 28 is not installed: run make test where apt-get reaches a Debian mirror that "
            f"has forky ({error})"
        )


@pytest.fixture(scope="session")
def docker20():
    with running_engine() as docker:
        yield docker


@pytest.fixture(scope="session")
def docker26(stable_suite):
    with running_engine(stable_suite) as docker:
        yield docker


@pytest.fixture(scope="session")
def docker28(newest_suite):
    with running_engine(newest_suite) as docker:
        yield docker


def _signed_in(docker: Program, registry: Registry) -> Program:
    docker("login", registry.host, "-u", "x-token", "--password-stdin", text=registry.token)
    return docker


@pytest.fixture(params=["docker20", "docker26", "docker28"])
def docker(request, registry) -> Program:
    return _signed_in(request.getfixturevalue(request.param), registry)


@pytest.fixture(params=["docker26", "docker28"])
def buildx(request, registry) -> Program:
    return _signed_in(request.getfixturevalue(request.param), registry).with_words("buildx")


@pytest.fixture
def buildx26(docker26, registry) -> Program:
    return _signed_in(docker26, registry).with_words("buildx")


@pytest.fixture(scope="session")
def containerd(tmp_path_factory) -> Iterator[Program]:
    """`ctr` of a containerd of its own."""
    need_mounts("containerd mounts what it unpacks")
    folder = tmp_path_factory.mktemp("containerd")
    settings = folder / "config.toml"
    settings.write_text(
        "version = 2\n"
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'root = "{folder}/root"\n'
        f'state = "{folder}/state"\n'
        f'[grpc]\naddress = "{folder}/socket"\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [need("containerd"), "-c", settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    ctr = Program((str(need("ctr", "containerd")), "--address", f"{folder}/socket"))
    try:
        deadline = time.monotonic() + 60
        while ctr.try_run("version").returncode != 0:
            assert time.monotonic() < deadline, (folder / "log").read_text()
        yield ctr
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tool(newest_suite, client_home):
    """A program of Debian's newest suite."""

    def get(name: str) -> Program:
        found = find(name, newest_suite / "usr/bin")
        if found is None:
            pytest.skip(f"{name} is not installed: Debian's newest suite does not have it now")
        return Program((str(found),), client_home)

    return get


@pytest.fixture
def go_tool(client_home):
    """A program that only Go's module proxy has."""

    def get(name: str, module: str) -> Program:
        found = find(name, Path.home() / "go/bin")
        if found is None:
            pytest.skip(f"{name} is not installed: go install {module}@latest")
        return Program((str(found),), client_home)

    return get


@pytest.fixture(scope="session")
def root_files(tmp_path_factory) -> Path:
    """A folder to build from: a shell and its links in one file, and some content."""
    folder = tmp_path_factory.mktemp("context")
    shutil.copy(need("busybox", "busybox-static"), folder / "busybox")
    (folder / "text").write_text("what was built\n")
    return folder


@pytest.fixture(scope="session")
def big_files(tmp_path_factory) -> Iterator[Path]:
    """A folder of 320 MB that builds an image of four layers, the last one small."""
    folder = tmp_path_factory.mktemp("big")
    generator = random.Random("big files")
    lines = ["FROM scratch"]
    for part in "abc":
        (folder / part).write_bytes(generator.randbytes(106_700_000))
        lines.append(f"COPY {part} /{part}")
    (folder / "text").write_text("what was built\n")
    (folder / "Dockerfile").write_text("\n".join([*lines, "COPY text /text", "CMD none", ""]))
    yield folder
    shutil.rmtree(folder)
