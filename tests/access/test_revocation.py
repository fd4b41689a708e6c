"""What is taken away stops working within 10 seconds, on every server (T18)."""

import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.access.world import make_tenant
from tests.protocol.registry import Registry
from tests.support.eventually import REVOKED_WITHIN, eventually
from tests.support.postgres import new_database
from tests.support.server import basic, free_port, running_server

pytestmark = pytest.mark.slow  # two servers, and as long as they remember


@dataclass(frozen=True, slots=True)
class Nodes:
    """Two servers that share a database."""

    registries: tuple[Registry, Registry]
    http: httpx.Client

    @property
    def first(self) -> Registry:
        return self.registries[0]

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """A request of the first administrator's to the first server, which has to succeed."""
        answer = self.http.request(
            method,
            f"{self.first.url}/api/v1{path}",
            json=body,
            headers=basic(self.first.server.token),
        )
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, postgres_server):
    folder, key = tmp_path_factory.mktemp("nodes"), secrets.token_hex(32)
    with ExitStack() as stack:
        url = stack.enter_context(new_database(postgres_server))
        found = []
        for node in ("one", "two"):
            port = free_port()
            environment = {
                "ENTREPOT_SECRET_KEY": key,
                "ENTREPOT_BLOBS__URL": f"file://{folder}/blobs",
            }
            server = stack.enter_context(
                running_server(folder / node, database_url=url, port=port, environment=environment)
            )
            found.append(Registry(server, f"registry.localhost:{port}"))
        http = stack.enter_context(httpx.Client(timeout=30))
        yield Nodes((found[0], found[1]), http)


@dataclass(frozen=True, slots=True)
class Case:
    """An organisation of a case's own, with somebody who uses a repository of it."""

    nodes: Nodes
    slug: str
    user: str
    token: str
    project: str
    name: str
    repository: str


def _revoke(case: Case) -> None:
    case.nodes.first.revoke(case.token)


def _leave(case: Case) -> None:
    case.nodes.admin("DELETE", f"/organisations/{case.slug}/members/{case.user}")


def _lower(case: Case) -> None:
    path = f"/organisations/{case.slug}/members/{case.user}"
    case.nodes.admin("PATCH", path, {"role": "reader"})


def _disable(case: Case) -> None:
    case.nodes.admin("PATCH", f"/users/{case.user}", {"is_disabled": True})


def _transfer(case: Case) -> None:
    slug = f"org-{secrets.token_hex(5)}"
    case.nodes.admin("POST", "/organisations", {"slug": slug})
    case.nodes.admin("POST", f"/projects/{case.project}/transfer", {"organisation": slug})


def _unlink(case: Case) -> None:
    case.nodes.admin("DELETE", f"/projects/{case.project}/repositories/{case.repository}")


def _close(case: Case) -> None:
    case.nodes.admin("PATCH", f"/repositories/{case.repository}", {"is_public": False})


def _forbid_public(case: Case) -> None:
    case.nodes.admin("PATCH", f"/organisations/{case.slug}", {"allows_public": False})


def _delete(case: Case) -> None:
    case.nodes.admin("DELETE", f"/organisations/{case.slug}")


# What is done, whose token it is, where, and what it ends: pull is a read, push a write.
CASES: list[tuple[Callable[[Case], None], str, str, str]] = [
    (_revoke, "user", "team/app", "pull"),
    (_revoke, "user", "team/app", "push"),
    (_leave, "user", "team/app", "pull"),
    (_lower, "user", "team/app", "push"),
    (_disable, "user", "team/app", "pull"),
    (_transfer, "user", "project", "pull"),
    (_transfer, "project", "project", "pull"),
    (_unlink, "project", "team/app", "pull"),
    (_close, "stranger", "team/app", "pull"),
    (_forbid_public, "stranger", "team/app", "pull"),
    (_delete, "user", "team/app", "pull"),
    (_delete, "project", "project", "push"),
]


def make_case(nodes: Nodes, who: str, where: str) -> Case:
    registry = nodes.first
    with httpx.Client(base_url=registry.url, timeout=30, verify=registry.server.trust) as http:
        tenant = make_tenant(registry, http)
    slug, user = tenant.slug, tenant.users["member"]
    token = tenant.secrets["member"]
    if who == "project":
        token = registry.new_token("project", slug, project=tenant.project)
    if who == "stranger":
        nodes.admin("POST", "/users", {"name": (user := f"user-{secrets.token_hex(5)}")})
        token = registry.new_token("user", user=user)
        path = f"/repositories/{tenant.repositories['linked']}"
        nodes.admin("PATCH", path, {"is_public": True})
    name = tenant.project if where == "project" else tenant.names["linked"]
    return Case(nodes, slug, user, token, tenant.project, name, tenant.repositories["linked"])


def works(registry: Registry, http: httpx.Client, case: Case, what: str, headers: Any) -> bool:
    if what == "pull":
        answer = http.get(f"{registry.url}/v2/{case.name}/manifests/v1", headers=headers)
    else:
        answer = http.post(f"{registry.url}/v2/{case.name}/blobs/uploads/", headers=headers)
    assert answer.status_code in {200, 202, 401, 403, 404}, answer.text
    return answer.is_success


def test_what_is_taken_away_stops_on_every_server(nodes):
    """All at once, since each may take as long as a server remembers."""
    left, took = [], {}
    for take, who, where, what in CASES:
        case = make_case(nodes, who, where)
        for registry in nodes.registries:
            bearer = registry.bearer(case.token, f"repository:{case.name}:pull,push")
            for scheme, headers in (("basic", basic(case.token)), ("bearer", bearer)):
                left.append((take, case, what, registry, scheme, headers))
    for _, case, what, registry, _, headers in left:
        assert works(registry, nodes.http, case, what, headers)  # and is remembered from now on

    begun = {}
    for take, case, *_ in left:
        if case.slug not in begun:
            take(case)
            begun[case.slug] = time.monotonic()

    def has_stopped():
        for caller in tuple(left):
            take, case, what, registry, scheme, headers = caller
            if not works(registry, nodes.http, case, what, headers):
                key = (take.__name__, what, registry.server.port, scheme)
                took[key] = time.monotonic() - begun[case.slug]
                left.remove(caller)
        return not left

    eventually(has_stopped, within=REVOKED_WITHIN, missing=left)
    assert max(took.values()) < REVOKED_WITHIN, took
    assert len(took) == 4 * len({(take, what) for take, _, _, what in CASES})


@pytest.mark.parametrize(
    ("take", "who", "where"),
    [(take, who, where) for take, who, where, _ in CASES if who != "stranger"],
)
def test_a_write_stops_at_once_on_the_other_server(nodes, take, who, where):
    """A read may rest on an answer of the last seconds; a write asks the database."""
    case = make_case(nodes, who, where)
    other = nodes.registries[1]
    bearer = other.bearer(case.token, f"repository:{case.name}:pull,push")
    for headers in (basic(case.token), bearer):
        assert works(other, nodes.http, case, "push", headers)

    take(case)

    for headers in (basic(case.token), bearer):
        assert not works(other, nodes.http, case, "push", headers)
