"""Real clients pull Docker Hub's images through: cold, warm, and with the upstream stopped.

The upstream is Debian's docker-registry behind the preset of Docker Hub, and its access log the
witness. Clients read the files of docs/mirrors.md. Each test has an organisation of its own.
"""

import functools
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.mirrored import (
    ContainerdMachine,
    DockerMachine,
    Machine,
    PodmanMachine,
    Published,
    SkopeoMachine,
    Stand,
    running_stand,
)
from tests.support.docker_engine import running_engine
from tests.support.programs import Program, need

DOCKERS = ("docker20", "docker26", "docker28")
CLIENTS = (*DOCKERS, "containerd", "podman", "skopeo")
LABELS = (*DOCKERS, "docker20-private", "every")


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    with running_stand(tmp_path_factory.mktemp("mirrors"), LABELS) as stand:
        yield stand


@pytest.fixture(scope="session")
def plain_skopeo(client_home):
    return Program((str(need("skopeo")),), client_home)


@pytest.fixture
def publish(stand, plain_skopeo):
    return lambda name: stand.publish(plain_skopeo, name)


@pytest.fixture(scope="module")
def start(stand, request):
    """Makes an engine whose mirror is that of an organisation."""

    def get(client: str, organisation: str):
        suites = {"docker26": "stable_suite", "docker28": "newest_suite"}
        suite = request.getfixturevalue(suites[client]) if client in suites else None
        settings = json.loads(stand.file("`/etc/docker/daemon.json`", organisation))
        return running_engine(suite, within=stand.within, settings=settings)

    return get


@pytest.fixture(scope="module")
def engine(start):
    """One of each version, whose mirror is that of the organisation with the same name."""
    with ExitStack() as stack:
        yield functools.cache(lambda client: stack.enter_context(start(client, client)))


@pytest.fixture
def within(stand, tmp_path):
    """A program that knows our names, with sign-ins of its own and these further variables."""

    def make(program: Program, **variables: object) -> Program:
        (tmp_path / "auth.json").write_text("{}")
        ours = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
        ours |= {name: str(value) for name, value in variables.items()}
        return Program((*stand.within, *program.words), {**program.environment, **ours})

    return make


def sign_in(stand: Stand, program: Program) -> Program:
    words = ("login", stand.site.name, "-u", "x-token", "--password-stdin")
    program(*words, text=stand.server.token)
    return program


@pytest.fixture
def machine(stand, engine, within, request, tmp_path):
    """A machine of each kind, signed in here as for any other image."""

    def get(client: str) -> Machine:
        match client:
            case "containerd":
                words = ("--user", f"x-token:{stand.server.token}")
                return ContainerdMachine(within(request.getfixturevalue("containerd")), words)
            case "podman":
                podman = within(request.getfixturevalue("podman"))
                return PodmanMachine(sign_in(stand, podman))
            case "skopeo":
                skopeo = within(request.getfixturevalue("plain_skopeo"))
                return SkopeoMachine(sign_in(stand, skopeo), tmp_path / "copy")
            case _:
                return DockerMachine(sign_in(stand, engine(client)))

    return get


def check(stand: Stand, machine: Machine, reference: str, image: Published, path: str) -> None:
    """Cold: each blob is asked for once. Warm: nothing is. With the upstream stopped: it is here."""
    machine.pull(reference)
    asked = stand.asked(image)
    blobs = [line for line in asked if line.method == "GET" and "/blobs/" in line.path]
    assert sorted(line.path.rpartition("/")[2] for line in blobs) == sorted(image.blobs)

    machine.forget(reference)
    machine.pull(reference)
    assert stand.asked(image) == asked

    stand.expire(path)
    with stand.stopped():
        machine.forget(reference)
        machine.pull(reference)
    machine.forget(reference)


@pytest.mark.parametrize("client", CLIENTS)
def test_an_image_is_pulled_through_by_its_name_here(stand, machine, publish, client):
    organisation = f"{client}-named"
    image = publish(f"{client}-named")
    path = f"{organisation}/cache/{image.name}"
    stand.add_hub(organisation)
    stand.entrepot(
        "repository", "create", path, "--upstream", "docker-hub", "--upstream-repository",
        image.name, "--freshness", "3600",
    )  # fmt: skip

    check(stand, machine(client), f"{stand.site.name}/{path}:latest", image, path)


@pytest.mark.parametrize("client", DOCKERS)
def test_docker_takes_a_public_mirror(stand, engine, publish, client):
    image = publish(f"{client}-mirrored")
    stand.add_mirror(client, "/", "--public")

    path = f"{client}/library/{image.name}"
    check(stand, DockerMachine(engine(client)), image.name, image, path)


def test_docker_20_opens_a_private_mirror_with_a_token_for_docker_hub(stand, start, publish):
    image = publish("private-mirrored")
    stand.add_mirror("docker20-private")

    with start("docker20", "docker20-private") as docker:
        settings = Path(docker.environment["DOCKER_CONFIG"], "config.json")
        settings.write_text(stand.file("`~/.docker/config.json`", "docker20-private"))
        path = f"docker20-private/library/{image.name}"
        check(stand, DockerMachine(docker), image.name, image, path)


@pytest.mark.parametrize(
    ("organisation", "host", "name", "prefix", "words"),
    [
        ("containerd-public", "docker.io", "", "/", ("--public",)),
        ("containerd-private", "docker.io", " with a token", "/", ()),
        ("containerd-user", "docker.io", "", "/", ()),
        ("every", "_default", "", "hub", ("--public",)),
    ],
    ids=["public", "token", "user", "default"],
)
def test_containerd_takes_a_mirror(
    stand, within, containerd, publish, tmp_path, organisation, host, name, prefix, words
):
    image = publish(f"{organisation}-mirrored")
    stand.add_mirror(organisation, prefix, *words)
    place = f"{host}/hosts.toml"
    file = tmp_path / "certs.d" / place
    file.parent.mkdir(parents=True)
    file.write_text(stand.file(f"`/etc/containerd/certs.d/{place}`{name}", organisation))

    options: tuple[str, ...] = ("--hosts-dir", str(tmp_path / "certs.d"))
    if organisation == "containerd-user":
        options += ("--user", f"x-token:{stand.server.token}")

    machine = ContainerdMachine(within(containerd), options)
    below = "/".join(part for part in (organisation, prefix.strip("/"), "library") if part)
    reference = f"docker.io/library/{image.name}:latest"
    check(stand, machine, reference, image, f"{below}/{image.name}")


@pytest.mark.parametrize("client", ["podman", "skopeo"])
@pytest.mark.parametrize("words", [("--public",), ()], ids=["public", "signed-in"])
def test_podman_and_skopeo_take_a_mirror(stand, within, publish, request, tmp_path, client, words):
    organisation = f"{client}-{'public' if words else 'private'}"
    image = publish(f"{organisation}-mirrored")
    stand.add_mirror(organisation, "/", *words)
    place = "containers/registries.conf.d/docker-hub.conf"
    file = tmp_path / ".config" / place
    file.parent.mkdir(parents=True)
    file.write_text(stand.file(f"`/etc/{place}`", organisation))
    plain = request.getfixturevalue({"podman": "podman", "skopeo": "plain_skopeo"}[client])
    program = within(plain, HOME=tmp_path)
    if not words:
        sign_in(stand, program)

    machine: Machine = SkopeoMachine(program, tmp_path / "copy")
    if client == "podman":
        machine = PodmanMachine(program)
    reference = f"docker.io/library/{image.name}:latest"
    check(stand, machine, reference, image, f"{organisation}/library/{image.name}")
