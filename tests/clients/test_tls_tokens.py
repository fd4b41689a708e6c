"""Every client with every kind of token by every form of address, over TLS of a private CA."""

import re
import tarfile
import time
from pathlib import Path

import pytest

from tests.clients.callers import Caller, Docker, HelmRequests, Oras, Podman, Skopeo
from tests.clients.tls_registry import Content, TlsRegistry, make_content, running_tls_registry
from tests.support.docker_engine import running_engine
from tests.support.postgres import new_database
from tests.support.private_site import PrivateSite, make_site
from tests.support.programs import Program, find, need
from tests.support.server import free_port

CLIENTS = ("docker20", "docker26", "docker28", "podman", "skopeo", "oras", "helm requests")

# What a token of each kind may do by each form of address. The first four lead to a repository
# that its project is linked to, or to the project's own; `elsewhere` is a sub-domain as well.
FORMS = ("sub-domain", "path", "project id", "default", "elsewhere")
EVERYTHING, PULL, NOTHING = "everything", "pull", "nothing"
MATRIX = {
    "user": (EVERYTHING,) * 5,
    "organisation": (EVERYTHING,) * 5,
    "project": (*(EVERYTHING,) * 4, NOTHING),
    "pull of project": (*(PULL,) * 4, NOTHING),
    "pull of organisation": (PULL,) * 5,
    "patterns": (EVERYTHING, EVERYTHING, NOTHING, EVERYTHING, NOTHING),
    "actions": (PULL,) * 5,
}
CELLS = [
    pytest.param(database, client, kind, form, may, id=f"{database}-{client}-{kind}-{form}")
    for database, client in [*(("sqlite", each) for each in CLIENTS), ("postgres", "skopeo")]
    for kind, row in MATRIX.items()
    for form, may in zip(FORMS, row, strict=True)
    # Docker 28 speaks to a registry as 26 does, so a part will do.
    if client != "docker28" or form in {"sub-domain", "project id"}
]

NOT_PULLED = "no such repository, or none that you may see"
NOT_PUSHED = "this credential may not push here; ask an administrator of the organisation"
# Some ask with HEAD, whose answer has no text, and Docker 26 shows none.
NOT_PULLED_SHORT = {"docker26": ": not found", "docker28": ": not found", "oras": ": not found"}
NOT_PUSHED_SHORT = {"docker26": "403 Forbidden"}
REVOKED = re.compile("unauthorized|this token is not known here", re.IGNORECASE)
UNTRUSTED = "x509: certificate signed by unknown authority"
LABELS = ("acme", "main")


@pytest.fixture(scope="session")
def content(tmp_path_factory) -> Content:
    return make_content(tmp_path_factory.mktemp("content"))


@pytest.fixture(scope="session")
def sqlite_site(tmp_path_factory) -> PrivateSite:
    return make_site(tmp_path_factory.mktemp("site"), "registry.localhost", free_port(), LABELS)


@pytest.fixture(scope="session")
def sqlite_tls(tmp_path_factory, sqlite_site, content):
    folder = tmp_path_factory.mktemp("tls") / "data"
    with running_tls_registry(folder, sqlite_site, content) as registry:
        yield registry


@pytest.fixture(scope="session")
def postgres_tls(tmp_path_factory, content, postgres_server):
    site = make_site(tmp_path_factory.mktemp("site"), "registry.localhost", free_port(), LABELS)
    folder = tmp_path_factory.mktemp("tls") / "data"
    with (
        new_database(postgres_server) as url,
        running_tls_registry(folder, site, content, url) as registry,
    ):
        yield registry


@pytest.fixture
def database():
    """Which of the two; tests that try both parametrize it."""
    return "sqlite"


@pytest.fixture
def tls(request, database) -> TlsRegistry:
    return request.getfixturevalue(f"{database}_tls")


def _engine(site: PrivateSite, content: Content, suite: Path | None, *environment: str):
    within = (*site.within, "env", *environment)
    with running_engine(suite, within=within) as docker:
        docker("import", content.layer, "probe")
        yield docker


@pytest.fixture(scope="session")
def engine20(sqlite_site, content):
    yield from _engine(sqlite_site, content, None)


@pytest.fixture(scope="session")
def engine26(sqlite_site, content, stable_suite):
    # With the containerd image store it trusts certs.d for everything but fetching tokens.
    trust = f"SSL_CERT_FILE={sqlite_site.ca_file}"
    yield from _engine(sqlite_site, content, stable_suite, trust)


@pytest.fixture(scope="session")
def engine28(sqlite_site, content, newest_suite):
    trust = f"SSL_CERT_FILE={sqlite_site.ca_file}"
    yield from _engine(sqlite_site, content, newest_suite, trust)


@pytest.fixture(scope="session")
def podman_inside(sqlite_site, content, podman):
    inside = Program((*sqlite_site.within, *podman.words), podman.environment)
    inside("import", content.layer, "probe")
    return inside


@pytest.fixture
def call(request, tls, content, client_home, tmp_path):
    """A client that has signed in nowhere."""

    def make(client: str) -> Caller:
        site = tls.site
        match client:
            case "docker20" | "docker26" | "docker28":
                engine = request.getfixturevalue(client.replace("docker", "engine"))
                return Docker.at(engine, tmp_path)
            case "podman":
                program = request.getfixturevalue("podman_inside")
                return Podman.at(program, site.ca_file, tmp_path)
            case "skopeo":
                program = Program((*site.within, str(need("skopeo"))), client_home)
                return Skopeo(program, site.ca_file.parent, content.probe, tmp_path)
            case "oras":
                suite = request.getfixturevalue("stable_suite")
                program = Program((*site.within, str(suite / "usr/bin/oras")), client_home)
                return Oras(program, site.ca_file, tmp_path)
            case _:
                return HelmRequests(tls.http)

    return make


@pytest.mark.parametrize(("database", "client", "kind", "form", "may"), CELLS)
def test_a_token_may_by_each_client_what_its_kind_may(tls, call, client, kind, form, may):
    scene = tls.scene(form)
    target = scene.target
    caller = call(client)

    signed_in = caller.sign_in(target.host, tls.new_token(kind, scene)["token"])
    pulled = caller.pull(target.reference("seed"))
    pushed = caller.push(target.reference("pushed"))

    assert signed_in.is_done, signed_in.said
    assert pulled.is_done is (may != NOTHING), pulled.said
    assert pushed.is_done is (may == EVERYTHING), pushed.said
    assert tls.has(target, "pushed") is (may == EVERYTHING)
    if may == NOTHING:
        assert NOT_PULLED_SHORT.get(client, NOT_PULLED) in pulled.said
    if may != EVERYTHING:
        assert NOT_PUSHED_SHORT.get(client, NOT_PUSHED) in pushed.said


@pytest.mark.parametrize("client", CLIENTS)
def test_sub_domains_keep_their_sign_ins_apart(tls, call, client):
    acme, main = tls.scene("sub-domain"), tls.scene("default")
    at_acme = acme.target.reference("seed")
    at_main = f"{tls.site.below('main')}/{main.target.name}:seed"
    by_path = f"{tls.site.name}/{acme.target.full_name}:seed"
    caller = call(client)

    for host, scene in ((tls.site.below("acme"), acme), (tls.site.below("main"), main)):
        signed_in = caller.sign_in(host, tls.new_token("organisation", scene)["token"])
        assert signed_in.is_done, signed_in.said
    pulled = [caller.pull(at_acme), caller.pull(at_main), caller.pull(at_acme)]
    elsewhere = caller.pull(by_path)

    assert all(outcome.is_done for outcome in pulled), pulled
    assert not elsewhere.is_done


@pytest.mark.parametrize("client", CLIENTS)
def test_one_sign_in_at_the_main_host_is_for_all_its_path_forms(tls, call, client):
    scenes = {form: tls.scene(form) for form in ("path", "project id", "default")}
    caller = call(client)

    caller.sign_in(tls.site.name, tls.new_token("organisation", scenes["path"])["token"])
    by_organisation = {
        form: caller.pull(scene.target.reference("seed")).is_done for form, scene in scenes.items()
    }
    caller.sign_in(tls.site.name, tls.new_token("user", scenes["path"])["token"])
    by_user = [caller.pull(scene.target.reference("seed")).is_done for scene in scenes.values()]

    # A token of one organisation is not good for the default one: the host has one sign-in.
    assert by_organisation == {"path": True, "project id": True, "default": False}
    assert by_user == [True] * 3


@pytest.mark.parametrize("client", CLIENTS)
def test_everybody_pulls_what_is_public_and_nothing_else(tls, call, client):
    caller = call(client)
    for form in ("sub-domain", "path", "default"):
        target = tls.scene(form).target
        private = caller.pull(target.reference("seed"))
        tls.ask("PATCH", f"/repositories/{tls.repository_id(target)}", {"is_public": True})

        public = caller.pull(target.reference("seed"))
        pushed = caller.push(target.reference("pushed"))

        assert not private.is_done
        assert public.is_done, public.said
        assert not pushed.is_done
        assert not tls.has(target, "pushed")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_wrong_token_is_refused_at_sign_in(tls, call, client):
    for host in (tls.site.name, tls.site.below("acme")):
        assert not call(client).sign_in(host, "wrong").is_done


@pytest.mark.parametrize("client", ["docker20", "docker26", "docker28"])
def test_a_revoked_token_pulls_for_ten_seconds_at_most(tls, call, client):
    scene = tls.scene("sub-domain")
    token = tls.new_token("pull of organisation", scene)
    caller = call(client)
    caller.sign_in(scene.target.host, token["token"])
    assert caller.pull(scene.target.reference("seed")).is_done

    tls.ask("DELETE", f"/tokens/{token['id']}")
    deadline = time.monotonic() + 10
    while (outcome := caller.pull(scene.target.reference("seed"))).is_done:
        assert time.monotonic() < deadline

    assert REVOKED.search(outcome.said)


def test_a_stranger_among_authorities_is_not_trusted(tls, sqlite_site, engine20, client_home):
    """That the clients look at the certificate at all, which they may not do on 127.0.0.1."""
    host = tls.site.below("stranger")
    login = (host, "-u", "x-token", "--password-stdin")
    skopeo = Program((*sqlite_site.within, str(need("skopeo"))), client_home)

    said = [program.refused("login", *login, text="any") for program in (engine20, skopeo)]

    assert all(UNTRUSTED in words for words in said), said


def test_helm_pushes_and_pulls_a_chart(tls, client_home, tmp_path):
    found = find("helm", Path.home() / "go/bin")
    if found is None:
        pytest.skip("helm is not installed: go install helm.sh/helm/v3/cmd/helm@latest")
    helm = Program((*tls.site.within, str(found)), client_home)
    scene = tls.scene("sub-domain")
    trust = f"--ca-file={tls.site.ca_file}"
    chart = tmp_path / "chart-1.2.3.tgz"
    (tmp_path / "back").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 1.2.3\n")
    with tarfile.open(chart, "w:gz") as tar:
        tar.add(tmp_path / "Chart.yaml", "chart/Chart.yaml")
    login = ("registry", "login", trust, scene.target.host, "-u", "x-token", "--password-stdin")
    repository = f"oci://{scene.target.host}/{scene.target.name}"

    helm(*login, text=tls.new_token("organisation", scene)["token"])
    helm("push", trust, chart, repository)
    helm(*login, text=tls.new_token("pull of organisation", scene)["token"])
    helm("pull", trust, f"{repository}/chart", "--version", "1.2.3", "-d", tmp_path / "back")
    said = helm.refused("push", trust, chart, f"{repository}/more")

    assert (tmp_path / "back/chart-1.2.3.tgz").read_bytes() == chart.read_bytes()
    assert NOT_PUSHED in said
