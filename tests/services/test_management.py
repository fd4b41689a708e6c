"""Management: writes that run twice, and names that come back."""

import pytest

from entrepot.model.clock import DAY
from entrepot.model.errors import Denied, NameUnknown, Taken
from entrepot.services.access import OPERATOR
from entrepot.services.organisations import Organisations
from entrepot.services.projects import Projects
from entrepot.services.repositories import Repositories
from tests.services.conftest import address


def of(world):
    return Organisations(world.database, world.clock, world.access)


async def test_an_organisation_whose_creation_runs_twice_is_made_once(world):
    world.database.is_twice = True

    made = await of(world).create(OPERATOR, "initech", name="Initech")

    assert made.slug == "initech"
    events = await world.rows(
        "SELECT 1 FROM audit_events WHERE action = 'organisation.created' AND object_id = :id",
        id=made.public_id,
    )
    assert len(events) == 1


async def test_nobody_else_gets_the_slug_of_an_organisation(world):
    await of(world).create(OPERATOR, "initech")

    with pytest.raises(Taken):
        await of(world).create(OPERATOR, "initech")


async def test_a_path_never_leads_from_a_deleted_organisation_to_the_default_one(world):
    admin = await world.token("user", "main")
    # Reached by the sub-domain alone, as long as acme is there.
    await world.upload(admin, address("acme/app", "main"), b"planted")

    await of(world).delete(OPERATOR, "acme", version=None)

    async with world.database.read() as tx:
        with pytest.raises(NameUnknown):
            await world.addresses.find(tx, address("acme/app"))
    with pytest.raises(Denied):
        await world.upload(admin, address("acme/other"), b"planted")


async def test_the_id_of_a_deleted_project_leads_nowhere(world):
    admin = await world.token("user", "main")
    repositories = Repositories(
        world.database, world.clock, world.access, world.addresses, window=DAY
    )
    projects = Projects(world.database, world.clock, world.access, repositories)
    made = await projects.create(OPERATOR, "acme", "app")

    await projects.delete(OPERATOR, made.public_id, version=None)

    with pytest.raises(Denied):
        await world.upload(admin, address(made.public_id), b"planted")
