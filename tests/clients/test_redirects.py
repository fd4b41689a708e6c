"""Real clients that are sent to the object store: they get every byte, and keep their token."""

import json
from dataclasses import dataclass

import pytest

from tests.support import s3_faults
from tests.support.images import Layout, blobs_of
from tests.support.programs import Program
from tests.support.s3_proxy import S3Proxy
from tests.support.server import running_server

INSECURE = "--tls-verify=false"
LAYERS = 3
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Redirecting:
    """As clients name it, and what it asks them for."""

    host: str
    token: str

    @property
    def credentials(self) -> str:
        return f"x-token:{self.token}"


@pytest.fixture(scope="session")
def clients_way(object_server):
    """The way of clients to the store; the registry has its own."""
    with S3Proxy(object_server.endpoint).running() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def redirecting(object_server, clients_way, tmp_path_factory):
    """A registry that sends clients to the store, under another name.

    Go's clients know hosts by their names alone, whatever the port, and crane follows to no address
    of a private network: so the registry is 127.0.0.1, and the store `localhost`.
    """
    settings = {
        **object_server.new_bucket().settings("registry"),
        "ENTREPOT_DELIVERY__MODE": "redirect",
        "ENTREPOT_DELIVERY__ENDPOINT": f"http://localhost:{clients_way.port}",
    }
    data = tmp_path_factory.mktemp("redirecting") / "data"
    with running_server(data, environment=settings) as server:
        yield Redirecting(f"127.0.0.1:{server.port}", server.token)


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """Layers of 8 MB that nobody else has."""
    layout = Layout(tmp_path_factory.mktemp("redirected") / "layout")
    return layout.add_image("redirected", megabytes=8 * LAYERS, layers=LAYERS)


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image at the registry, and who fetched its bytes from the store."""

    reference: str
    store: S3Proxy

    def fetched(self):
        """The blobs that came from the store; its clients told it nothing but the address."""
        for one in self.store.log:
            said = one.head.encode().decode("latin-1").lower()
            assert one.operation == "GetObject", said
            assert one.status in {200, 206}, (one.status, said)
            assert "authorization" not in said
            assert "entrepot_" not in said
        return [one.asked.key for one in self.store.log]


@pytest.fixture
def pushed(redirecting, skopeo, image, name, clients_way):
    reference = f"{redirecting.host}/{name}:v1"
    skopeo(
        "copy", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        redirecting.credentials, image.reference, f"docker://{reference}",
    )  # fmt: skip
    clients_way.log.clear()
    return Pushed(reference, clients_way)


@pytest.fixture
def broken_off(clients_way):
    """The first blob breaks off in its middle."""
    clients_way.on("GetObject", s3_faults.short(5 * MIB))
    yield
    clients_way.mend()


def diff_ids(engine: Program, reference: str) -> tuple[str, ...]:
    return tuple(json.loads(engine.output("image", "inspect", reference))[0]["RootFS"]["Layers"])


@pytest.fixture(params=["docker20", "docker26", "docker28"])
def engine(request, redirecting) -> Program:
    docker = request.getfixturevalue(request.param)
    words = ("login", redirecting.host, "-u", "x-token", "--password-stdin")
    docker(*words, text=redirecting.token)
    return docker


def test_docker_pulls_from_the_store(engine, pushed, image):
    engine("pull", pushed.reference)

    assert diff_ids(engine, pushed.reference) == image.diff_ids
    assert len(set(pushed.fetched())) == LAYERS
    engine("rmi", "--force", pushed.reference)


def test_docker_goes_on_where_the_store_broke_off(engine, pushed, image, broken_off):
    engine("pull", pushed.reference)

    assert diff_ids(engine, pushed.reference) == image.diff_ids
    assert len(pushed.fetched()) > LAYERS
    engine("rmi", "--force", pushed.reference)


def test_podman_pulls_from_the_store(podman, redirecting, pushed, image):
    podman("pull", INSECURE, "--creds", redirecting.credentials, pushed.reference)

    assert diff_ids(podman, pushed.reference) == image.diff_ids
    assert len(set(pushed.fetched())) == LAYERS
    podman("rmi", "--all", "--force")


def test_buildah_pulls_from_the_store(buildah, redirecting, pushed):
    buildah("pull", INSECURE, "--creds", redirecting.credentials, pushed.reference)

    assert len(set(pushed.fetched())) == LAYERS
    buildah("rmi", "--all", "--force")


def test_skopeo_copies_from_the_store(skopeo, redirecting, pushed, image, tmp_path):
    skopeo(
        "copy", "--src-tls-verify=false", "--src-creds", redirecting.credentials,
        f"docker://{pushed.reference}", f"oci:{tmp_path}/layout",
    )  # fmt: skip

    assert image.digest in blobs_of(tmp_path / "layout")
    assert len(set(pushed.fetched())) == LAYERS


def test_containerd_pulls_from_the_store(containerd, redirecting, pushed, image):
    containerd(
        "images", "pull", "--plain-http", "--user", redirecting.credentials, pushed.reference
    )

    assert image.digest in containerd.output("images", "ls", f"name=={pushed.reference}")
    assert len(set(pushed.fetched())) == LAYERS
    containerd("images", "rm", "--sync", pushed.reference)


def test_crane_pulls_from_the_store(tool, redirecting, pushed, image, tmp_path):
    crane = tool("crane")
    crane("auth", "login", redirecting.host, "-u", "x-token", "-p", redirecting.token)

    crane("pull", "--format", "oci", pushed.reference, tmp_path / "layout")
    crane("validate", "--remote", pushed.reference)

    assert image.digest in blobs_of(tmp_path / "layout")
    assert len(set(pushed.fetched())) == LAYERS


def test_oras_copies_from_the_store(
    stable_suite, client_home, redirecting, pushed, image, tmp_path
):
    oras = Program((str(stable_suite / "usr/bin/oras"),), client_home)
    oras(
        "cp", "--from-plain-http", "--from-username", "x-token", "--from-password",
        redirecting.token, "--to-oci-layout", pushed.reference, f"{tmp_path}/layout:v1",
    )  # fmt: skip

    assert image.digest in blobs_of(tmp_path / "layout")
    assert len(set(pushed.fetched())) == LAYERS
