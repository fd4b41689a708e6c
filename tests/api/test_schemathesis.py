"""Requests that schemathesis makes up out of the OpenAPI document, against a real server.

No 5xx; statuses, content types, headers and bodies of answers as described; what the schema
forbids is refused; methods that are not described are 405 with Allow.
"""

import json
import secrets
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.caller import People
from tests.protocol.registry import Registry
from tests.support.postgres import new_database
from tests.support.server import running_server

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SEED = 20261121
LEFT_OUT = (
    # Grammars of names, cursors of ours, and "one of these fields" are more than a schema says.
    "positive_data_acceptance",
)
# What would take the place that a run is about away from under it.
ENDING = (
    "delete_organisation",
    "delete_project",
    "delete_repository",
    "transfer_project",
)
# With an id that another operation answered it could revoke the very token that asks.
REVOKING = "revoke_token"


class Place:
    """A server of its own, with something of everything in it."""

    def __init__(self, registry):
        self.registry = registry
        self.people = People(registry, [])
        self.slug = f"org-{secrets.token_hex(5)}"
        admin = self.people.admin
        admin.made("/organisations", {"slug": self.slug})
        base = f"/organisations/{self.slug}"
        self.member = self.people.member(self.slug, "admin")
        self.other = self.people.member(self.slug)
        project = admin.made(f"{base}/projects", {"name": "Compiler"})
        token = admin.made(f"{base}/tokens", {"kind": "org", "name": "spare"})
        invitation = admin.made(f"{base}/invitations", {})
        client = registry.client(admin.token)
        digest = client.push_image(f"{self.slug}/team/app", "v1")
        client.close()
        [repository] = admin.items(f"{base}/repositories")
        self.values = {
            "organisation": self.slug,
            "project": project["id"],
            "repository": repository["id"],
            "token": token["id"],
            "invitation": invitation["id"],
            "user": self.other.name,
            "tag": "v1",
            "digest": digest,
        }

    def token_of(self, who):
        return {"admin": self.registry.server.token, "member": self.member.token}[who]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Not the server of the other tests: whatever can be changed is."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgres":
            server = request.getfixturevalue("postgres_server")
            url = stack.enter_context(new_database(server))
        server = stack.enter_context(running_server(tmp_path / "data", database_url=url))
        found = Place(Registry(server, ""))
        yield found
        for caller in found.people.callers:
            caller.close()


def run(place, tmp_path, who, *options, values=None, seed=SEED, seconds=600):
    """Schemathesis, from its command line; what fails is printed with the seed and a curl."""
    config = tmp_path / "schemathesis.toml"
    lines = [f'"path.{name}" = {json.dumps(value)}' for name, value in (values or {}).items()]
    config.write_text("\n".join(["[parameters]", *lines, ""]))
    print(f"schemathesis, seed {seed}")
    done = subprocess.run(
        [
            SCHEMATHESIS,
            *("--config-file", config),
            "run",
            f"{place.registry.url}/api/v1/openapi.json",
            *("--header", f"Authorization: Bearer {place.token_of(who)}"),
            *("--checks", "all", "--exclude-checks", ",".join(LEFT_OUT)),
            *("--exclude-operation-id", REVOKING),
            *("--seed", str(seed), "--request-timeout", "20"),
            *("--generation-database", "none", "--warnings", "off", "--no-color"),
            "--continue-on-failure",
            *options,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=tmp_path,
    )
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stderr
    assert place.people.caller(place.token_of(who)).get("/whoami").status_code == 200
    assert "request.failed" not in place.registry.server.log.read_text()


def without(*operations):
    return [word for name in operations for word in ("--exclude-operation-id", name)]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_every_operation_keeps_to_its_description(place, tmp_path):
    run(place, tmp_path, "admin", "--phases", "examples,coverage")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "who"), [("sqlite", "admin"), ("postgres", "member")], indirect=["place"]
)
def test_operations_on_what_is_there_keep_to_their_description(place, tmp_path, who):
    options = ("--phases", "fuzzing", "--max-examples", "4", *without(*ENDING))

    run(place, tmp_path, who, *options, values=place.values)


@pytest.mark.fuzz
@pytest.mark.parametrize("who", ["admin", "member"])
def test_operations_keep_to_their_description_for_long(place, tmp_path, who):
    seed = secrets.randbelow(2**31)

    run(place, tmp_path, who, "--max-examples", "300", seed=seed, seconds=7_200)


@pytest.mark.fuzz
@pytest.mark.parametrize("who", ["admin", "member"])
def test_operations_on_what_is_there_keep_to_it_for_long(place, tmp_path, who):
    seed = secrets.randbelow(2**31)
    options = ("--phases", "fuzzing", "--max-examples", "300", *without(*ENDING))

    run(place, tmp_path, who, *options, values=place.values, seed=seed, seconds=7_200)
