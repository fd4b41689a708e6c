"""A client that a generator makes of the document of a running server works against it."""

import importlib
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

GENERATOR = Path(sys.executable).with_name("openapi-python-client")


@pytest.fixture
def generated(registry, tmp_path, monkeypatch):
    """The package that the generator makes; a warning of it fails."""
    config = tmp_path / "config.yml"
    # It would look for ruff, to make what it wrote pretty.
    config.write_text("post_hooks: []\n")
    done = subprocess.run(
        [
            GENERATOR,
            "generate",
            *("--url", f"{registry.url}/api/v1/openapi.json"),
            *("--output-path", tmp_path / "generated_client"),
            *("--config", config),
            *("--meta", "none"),
            "--fail-on-warning",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    yield lambda name: importlib.import_module(f"generated_client.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "generated_client"]:
        del sys.modules[name]


@pytest.fixture
def slug():
    return f"org-{secrets.token_hex(5)}"


@pytest.mark.slow
def test_a_generated_client_makes_things_and_reads_what_was_done(generated, registry, slug):
    models, api = generated("models"), lambda name: generated(f"api.{name}")
    client = generated("client").AuthenticatedClient(
        registry.url, registry.server.token, timeout=60, raise_on_unexpected_status=True
    )

    with client:
        made = api("organisations.create_organisation").sync_detailed(
            client=client, body=models.NewOrganisation(slug=slug), idempotency_key=f"make-{slug}"
        )
        again = api("organisations.create_organisation").sync(
            client=client, body=models.NewOrganisation(slug=slug)
        )
        changed = api("organisations.change_organisation").sync_detailed(
            slug,
            client=client,
            body=models.OrganisationChanges(name="Acme"),
            if_match=made.headers["etag"],
        )
        stale = api("organisations.change_organisation").sync(
            slug,
            client=client,
            body=models.OrganisationChanges(name="Other"),
            if_match=made.headers["etag"],
        )
        project = api("projects.create_project").sync(
            slug, client=client, body=models.NewProject(name="Compiler")
        )
        token = api("tokens.create_token").sync(
            slug,
            client=client,
            body=models.NewToken(
                kind=models.NewTokenKind.PROJECT, name="builds", project=project.id
            ),
        )
        events = api("audit.list_events").sync(slug, client=client, limit=1_000)
        gone = api("tokens.revoke_token").sync_detailed(token.id, client=client)

    assert isinstance(made.parsed, models.Organisation)
    assert isinstance(again, models.Problem)
    assert again.type_ == "urn:entrepot:problem:taken"
    assert [field.field for field in again.errors] == ["slug"]
    # Only what was named was sent.
    assert changed.parsed.name == "Acme"
    assert changed.parsed.repository_creation == made.parsed.repository_creation
    assert stale.status == 412
    assert isinstance(project, models.Project)
    assert project.organisation.slug == slug
    assert isinstance(token, models.CreatedToken)
    assert token.token.startswith("entrepot_project_")
    assert token.project == project.id
    assert isinstance(events, models.AuditEventPage)
    assert [event.action for event in events.items] == [
        "token.created",
        "project.created",
        "organisation.changed",
        "organisation.created",
    ]
    assert {event.actor.name for event in events.items} == {"admin"}
    assert abs((datetime.now(UTC) - events.items[0].at).total_seconds()) < 300
    assert gone.status_code == 204


@pytest.mark.slow
def test_a_generated_client_reads_a_refusal(generated, registry, slug):
    client = generated("client").Client(registry.url, timeout=60)

    with client:
        refused = generated("api.organisations.show_organisation").sync(slug, client=client)

    assert refused.status == 401
    assert refused.type_ == "urn:entrepot:problem:unauthenticated"
