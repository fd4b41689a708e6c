"""Nodes whose clocks differ by five minutes, either way (T50)."""

import pytest

from entrepot.model.access import Action, Kind, Place
from entrepot.model.clock import HOUR, MINUTE
from entrepot.model.errors import Unauthenticated
from entrepot.model.names import RepositoryName
from entrepot.model.scopes import parse_scopes
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses
from entrepot.services.credentials import Credentials
from entrepot.services.last_use import LastUse
from entrepot.services.token_service import TokenService
from tests.support.clock import FakeClock


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_token_of_a_node_whose_clock_differs_is_good_until_its_own_end(world, minutes):
    here, there = world.clock, FakeClock()
    there.advance(minutes * MINUTE)
    actor = await world.token("org", "acme")
    addresses = Addresses(world.database)
    issuer = TokenService(
        world.database,
        there,
        access=Access(there, addresses),
        addresses=addresses,
        key=world.key,
        lifetime=3600,
    )
    scopes = parse_scopes(["repository:acme/app:pull"])
    issued = await issuer.issue(actor, scopes, audience="host", label=None)
    credentials = Credentials(world.database, world.key, LastUse(world.database, here))

    bearer = await credentials.by_bearer(issued.text, "host")

    place = Place(actor.credential.organisation_id or 0, "app")
    world.access.require(
        bearer, Action.PULL, place, Address(None, RepositoryName.parse("acme/app"))
    )
    assert world.access.opened_before(bearer) > here.now()
    here.advance(HOUR + minutes * MINUTE + 61_000_000)
    with pytest.raises(Unauthenticated):
        world.access.opened_before(bearer)


async def test_a_clock_that_is_set_back_moves_the_end_of_a_token_by_as_much(world):
    actor = await world.token("pull", "acme", expires_in=HOUR)
    assert actor.credential.kind is Kind.PULL
    world.clock.advance(HOUR)
    with pytest.raises(Unauthenticated):
        world.access.opened_before(actor)

    world.clock.advance(-30 * MINUTE)

    assert world.access.opened_before(actor) > world.clock.now()
    world.clock.advance(30 * MINUTE)
    with pytest.raises(Unauthenticated):
        world.access.opened_before(actor)
