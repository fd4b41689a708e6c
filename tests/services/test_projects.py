"""Projects and repositories whose writes run twice, and pushes that meet a move or an end."""

import pytest

from entrepot.db import repositories
from entrepot.model.clock import DAY
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    Denied,
    FieldInvalid,
    NotFound,
    Unauthenticated,
    UploadUnknown,
)
from entrepot.services.access import OPERATOR
from entrepot.services.projects import Projects
from entrepot.services.repositories import Repositories
from tests.services.conftest import address

CONTENT = b"content of a layer"


@pytest.fixture
def kept(world):
    return Repositories(world.database, world.clock, world.access, world.addresses, window=DAY)


@pytest.fixture
def projects(world, kept):
    return Projects(world.database, world.clock, world.access, kept)


async def pieces():
    yield CONTENT


async def repository_of(world, path):
    ((found,),) = await world.rows(
        "SELECT id FROM repositories WHERE path = :path AND deleted_at IS NULL", path=path
    )
    return found


async def test_creations_that_run_twice_make_one(world, kept, projects):
    world.database.is_twice = True

    project = await projects.create(OPERATOR, "acme", "site")
    made = await kept.create(OPERATOR, "acme", "app", {"immutable_tags": ("v*",)})

    assert (await projects.page(OPERATOR, "acme", after="", limit=9))[0] == [project]
    assert await kept.get(OPERATOR, made.id) == made
    assert made.immutable_tags == ("v*",)
    events = await world.rows("SELECT action FROM audit_events WHERE action LIKE '%.created'")
    assert sorted(events)[-2:] == [("project.created",), ("repository.created",)]


async def test_a_transfer_that_runs_twice_moves_and_counts_once(world, projects):
    project = await projects.create(OPERATOR, "acme", "site")
    builder = await world.token("project", "acme", project=project.public_id)
    await world.upload(builder, address(project.public_id), CONTENT)
    world.database.is_twice = True

    moved = await projects.transfer(OPERATOR, project.public_id, "globex", version=None)

    assert moved.organisation_slug == "globex"
    size = len(CONTENT)
    assert await world.bytes_of() == {
        ("acme", ""): 0,
        ("acme", project.public_id): 0,
        ("globex", ""): size,
        ("globex", project.public_id): size,
    }


async def test_an_upload_that_is_finished_behind_a_transfer_adds_nothing(world, projects):
    project = await projects.create(OPERATOR, "acme", "site")
    builder = await world.token("project", "acme", project=project.public_id)
    where = address(project.public_id)
    session = await world.uploads.open(builder, where, algorithm="sha256")

    await projects.transfer(OPERATOR, project.public_id, "globex", version=None)

    for actor in (builder, await world.token("org", "globex")):
        with pytest.raises((UploadUnknown, Unauthenticated)):
            await world.uploads.commit(actor, where, session, Digest.of(CONTENT), pieces(), None)
    assert await world.rows("SELECT 1 FROM blob_links") == []
    await world.uploads.sweep()
    assert await world.rows("SELECT 1 FROM uploads") == []


async def test_what_was_resolved_before_a_deletion_writes_nothing_behind_it(world, kept):
    admin, where = await world.token("user", "main"), address("app")
    await world.upload(admin, where, CONTENT)
    session = await world.uploads.open(admin, where, algorithm="sha256")
    await kept.delete(OPERATOR, await repository_of(world, "app"), version=None)

    with pytest.raises(UploadUnknown):
        await world.uploads.commit(admin, where, session, Digest.of(CONTENT), pieces(), None)

    assert await world.rows("SELECT 1 FROM repositories WHERE deleted_at IS NULL") == []


async def test_a_link_to_a_repository_of_another_organisation_is_none(world, kept, projects):
    project = await projects.create(OPERATOR, "acme", "site")
    ours = await kept.create(OPERATOR, "acme", "app", {})
    theirs = await kept.create(OPERATOR, "globex", "other", {})
    await projects.link(OPERATOR, project.public_id, ours.id)

    with pytest.raises(NotFound):
        await projects.link(OPERATOR, project.public_id, theirs.id)

    builder = await world.token("project", "acme", project=project.public_id)
    assert builder.credential.linked == {ours.id}
    await world.database.write(
        lambda tx: repositories.transfer(tx, ours.id, theirs.organisation_id)
    )
    async with world.database.read() as tx:
        assert (await world.access.renewed(tx, builder)).credential.linked == set()


@pytest.mark.parametrize(
    ("policies", "error"),
    [
        ({"is_public": True, "path": "x"}, FieldInvalid),
        ({"immutable_tags": ("a/b",)}, FieldInvalid),
        ({"immutable_tags": ("v",) * 51}, FieldInvalid),
    ],
)
async def test_policies_are_checked_below_every_surface(world, kept, policies, error):
    made = await kept.create(OPERATOR, "acme", "app", {})

    with pytest.raises(error):
        await kept.update(OPERATOR, made.id, policies, version=None)


async def test_the_operator_is_held_by_the_gates_too(world, kept):
    made = await kept.create(OPERATOR, "acme", "app", {"is_read_only": True})

    with pytest.raises(Denied) as refused:
        await kept.delete(OPERATOR, made.id, version=None)

    assert "read-only" in refused.value.message
