"""Two nodes behind nginx on PostgreSQL and an object store, as docs/nodes.md has it.

Real clients push and pull through both while one is killed in the middle of a push, of a pull and
of a fetch. They get all that they asked for, and in the end database and store fit together.
"""

import hashlib
import json
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.clients.conftest import Registry
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy, Line, Way
from tests.support.images import Image, Layout, blobs_of
from tests.support.invariants import check_invariants
from tests.support.kept import KeptObjects
from tests.support.nodes import PREFIX, Nodes, running_nodes
from tests.support.postgres import new_database
from tests.support.programs import Program, need
from tests.support.server import Client, basic, digest_of
from tests.support.upstreams.distribution import Distribution, running_distribution

MB = 1_000_000
INSECURE = "--tls-verify=false"
WAYS: tuple[Way, ...] = ("up", "down")
PLATFORMS = ("amd64", "arm64")
LAYERS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """Of an image of one platform, and how fast lines are while a node is to be killed."""

    megabytes: int
    rate: float  # bytes a second


SIZES = [
    pytest.param(Size(36, 4 * MB), id="small", marks=pytest.mark.timeout(900)),
    pytest.param(Size(600, 40 * MB), id="1 GB", marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
]


@pytest.fixture(scope="module", params=SIZES)
def size(request):
    return request.param


@pytest.fixture(scope="module")
def nodes(size, tmp_path_factory, postgres_server, postgres_template, object_server):
    """They keep nothing of their own: what the last test left fits together, whoever was killed."""
    bucket = object_server.new_bucket()
    folder = tmp_path_factory.mktemp("nodes")
    settings = {"FETCH__TAKE_OVER_SECONDS": "5", "OUTBOUND__ALLOW": "127.0.0.0/8"}
    with (
        new_database(postgres_server, template=postgres_template) as database_url,
        running_nodes(folder / "nodes", database_url, bucket, settings) as nodes,
    ):
        yield nodes
        said = nodes.nodes[1].entrepot("admin", "fsck")
        assert (said.returncode, said.stdout) == (0, ""), said.stdout + said.stderr
        check_invariants(database_url, KeptObjects(bucket, PREFIX))


@pytest.fixture
def registry(nodes):
    client = Client(nodes, token=nodes.token)
    yield Registry(nodes, client)
    client.close()


@pytest.fixture
def made(size, tmp_path):
    """An image of two platforms that share a layer; its bytes are those of no other test."""
    layout = Layout(tmp_path / "layout")
    yield layout.add_index(
        secrets.token_hex(4),
        megabytes=size.megabytes,
        layers=LAYERS,
        shared=1,
        architectures=PLATFORMS,
    )
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def plain_skopeo(client_home):
    return Program((str(need("skopeo")),), client_home)


@pytest.fixture
def docker(docker20, nodes):
    docker20("login", nodes.host, "-u", "x-token", "--password-stdin", text=nodes.token)
    yield docker20
    for reference in docker20.output("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if reference.startswith(nodes.host):
            docker20("rmi", "--force", reference)


def push(skopeo: Program, image: Image, reference: str, *words: str) -> None:
    skopeo(
        "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", *words,
        image.reference, f"docker://{reference}",
    )  # fmt: skip


def credentials(nodes: Nodes) -> tuple[str, str]:
    return ("--dest-creds", f"x-token:{nodes.token}")


def diff_ids(engine: Program, reference: str) -> list[str]:
    return json.loads(engine.output("image", "inspect", reference))[0]["RootFS"]["Layers"]


def unpacked(image: Image) -> list[str]:
    """The digests of what the layers of its first platform unpack to."""
    blobs = image.layout / "blobs/sha256"

    def read(digest: str) -> dict:
        return json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())

    manifest = read(read(image.digest)["manifests"][0]["digest"])
    return read(manifest["config"]["digest"])["rootfs"]["diff_ids"]


def test_every_client_pulls_through_all_nodes_what_another_pushed(
    nodes, registry, made, plain_skopeo, podman, docker, name, tmp_path
):
    reference = f"{nodes.host}/{name}:v1"
    before = [(node, way, node.passed(way)) for node in nodes.nodes for way in WAYS]
    push(plain_skopeo, made, reference, *credentials(nodes))
    docker("pull", reference)
    podman("pull", INSECURE, "--creds", f"x-token:{nodes.token}", reference)
    plain_skopeo(
        "copy", "--all", "--src-tls-verify=false", "--src-creds", f"x-token:{nodes.token}",
        f"docker://{reference}", f"dir:{tmp_path}/pulled",
    )  # fmt: skip

    assert diff_ids(docker, reference) == diff_ids(podman, reference) == unpacked(made)
    assert blobs_of(tmp_path / "pulled").items() <= blobs_of(made.layout).items()
    assert registry.check(name, "v1") == made.digest

    for engine, words, tag in (
        (docker, (), "docker"),
        (podman, (INSECURE, "--creds", f"x-token:{nodes.token}"), "podman"),
    ):
        again = f"{nodes.host}/{name}-{tag}:v1"
        engine("tag", reference, again)
        engine("push", *words, again)
        registry.check(f"{name}-{tag}", "v1")
    podman("rmi", "--all", "--force")
    assert all(node.passed(way) - count > MB for node, way, count in before)


def test_a_push_goes_on_when_its_node_is_killed(
    nodes, size, registry, made, plain_skopeo, docker, name, tmp_path
):
    archive = tmp_path / "image.tar"
    reference = f"{nodes.host}/{name}:v1"
    plain_skopeo("copy", made.reference, f"docker-archive:{archive}:{reference}")
    docker("load", "--input", archive)

    with ThreadPoolExecutor() as pool, nodes.slow(size.rate):
        pushing = pool.submit(docker, "push", reference)
        killed = nodes.kill_first_busy("up")
        assert not pushing.done()
        nodes.hurry()
        pushing.result()

    nodes.restart(killed)
    registry.check(name, "v1")


def test_a_pull_goes_on_when_its_node_is_killed(
    nodes, size, registry, made, plain_skopeo, docker, name
):
    reference = f"{nodes.host}/{name}:v1"
    push(plain_skopeo, made, reference, *credentials(nodes))

    with ThreadPoolExecutor() as pool, nodes.slow(size.rate):
        pulling = pool.submit(docker, "pull", reference)
        killed = nodes.kill_first_busy("down")
        assert not pulling.done()
        nodes.hurry()
        pulling.result()

    nodes.restart(killed)
    assert diff_ids(docker, reference) == unpacked(made)


def test_an_upload_goes_on_at_another_node(nodes, registry, name):
    content = secrets.token_bytes(8 * MB)
    pieces = [content[: 4 * MB], content[4 * MB :]]
    http = registry.http
    where = http.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]

    for piece in pieces:
        before = [node.passed("up") for node in nodes.nodes]
        sent = http.request("PATCH", where, content=piece)
        assert sent.status_code == 202, sent.text
        where = sent.headers["location"]
        # By most: a node may be joining something else.
        moved = [node.passed("up") - count for node, count in zip(nodes.nodes, before, strict=True)]
        took = nodes.nodes[moved.index(max(moved))]
        took.kill()
        asked = http.request("GET", where)
        assert (asked.status_code, asked.headers["range"]) == (204, sent.headers["range"])
        nodes.restart(took)

    digest = digest_of(content)
    done = http.request("PUT", str(httpx.URL(where).copy_merge_params({"digest": digest})))
    assert done.status_code == 201, done.text
    assert http.request("GET", f"/v2/{name}/blobs/{digest}").content == content


@dataclass(frozen=True, slots=True)
class Upstream:
    """A registry that others are pulled through from, and the line to it."""

    registry: Distribution
    line: FaultProxy

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.registry.port}"


@pytest.fixture
def upstream(tmp_path):
    with running_distribution(tmp_path / "upstream") as registry:
        line = FaultProxy("127.0.0.1", registry.port)
        with line.running():
            yield Upstream(registry, line)


def make_cached(nodes: Nodes, upstream: Upstream, name: str) -> None:
    """A repository of that name that comes from the upstream's library/app."""
    headers = basic(nodes.token)
    with httpx.Client(base_url=f"{nodes.url}/api/v1", headers=headers, timeout=60) as api:
        for path, body in (
            ("upstreams", {"name": "upstream", "url": upstream.line.origin}),
            (
                "repositories",
                {
                    "path": name,
                    "upstream": {"name": "upstream", "path": "library/app", "freshness": 3600},
                },
            ),
        ):
            answer = api.post(f"/organisations/main/{path}", json=body)
            assert answer.status_code == 201, answer.text


def read_on(nodes: Nodes, path: str, size: int) -> str:
    """The digest of a blob that is read as real clients do: from where it broke off."""
    content = hashlib.sha256()
    count = 0
    with httpx.Client(base_url=nodes.url, headers=basic(nodes.token), timeout=120) as http:
        while count < size:
            rest = {"range": f"bytes={count}-"} if count else {}
            with suppress(httpx.TransportError), http.stream("GET", path, headers=rest) as answer:
                assert answer.status_code == (206 if count else 200)
                for piece in answer.iter_raw():
                    content.update(piece)
                    count += len(piece)
    return f"sha256:{content.hexdigest()}"


def test_a_fetch_goes_on_when_its_node_is_killed(
    nodes, size, registry, made, upstream, plain_skopeo, docker, name
):
    push(plain_skopeo, made, f"{upstream.host}/library/app:v1")
    make_cached(nodes, upstream, name)
    upstream.line.line = Line(rate=size.rate / 2)
    child = registry.manifest(name, "v1")["manifests"][0]["digest"]
    layers = registry.manifest(name, child)["layers"]
    first = layers[0]

    with ThreadPoolExecutor(9) as pool:
        pulling = pool.submit(docker, "pull", f"{nodes.host}/{name}:v1")
        path = f"/v2/{name}/blobs/{first['digest']}"
        crowd = [pool.submit(read_on, nodes, path, first["size"]) for _ in range(8)]
        killed = kill_leader(nodes, first["digest"])
        assert not any(one.done() for one in crowd)
        upstream.line.line = Line()
        assert {one.result() for one in crowd} == {first["digest"]}
        pulling.result()

    nodes.restart(killed)
    assert diff_ids(docker, f"{nodes.host}/{name}:v1") == unpacked(made)
    for layer in layers:
        assert upstream.registry.count("GET", layer["digest"]) <= 2
    asked = [line for line in upstream.registry.served() if first["digest"] in line.path]
    assert [line.status for line in asked if line.method == "GET"] == [200, 206]


def kill_leader(nodes: Nodes, digest: str):
    """Kill the node that fetches it, once all nodes have some of it."""
    sql = "SELECT id, node_url FROM fetches WHERE digest = %s"
    with psycopg.connect(nodes.database_url, autocommit=True) as database:
        eventually(lambda: database.execute(sql, [digest]).rowcount == 1)
        [(id_, url)] = database.execute(sql, [digest]).fetchall()
    eventually(lambda: all(spooled(node.data, id_) > MB for node in nodes.nodes))
    leader = nodes.at(url)
    leader.kill()
    return leader


def spooled(data: Path, id_: str) -> int:
    """How much of a fetch a node has."""
    spool = data / "spool" / id_
    return spool.stat().st_size if spool.exists() else 0
