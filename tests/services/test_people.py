"""People where HTTP cannot look: the passing of time, and writes that run twice."""

import pytest
from argon2.profiles import CHEAPEST

from entrepot.db import users
from entrepot.identity.passwords import Passwords
from entrepot.identity.tokens import is_invitation, is_well_formed, new_invitation, new_token
from entrepot.model.access import Actor, Kind, Role
from entrepot.model.clock import DAY, HOUR, MINUTE
from entrepot.model.errors import Denied, FieldInvalid, NotFound, Unauthenticated, Unsupported
from entrepot.services.access import NOBODY, OPERATOR
from entrepot.services.credentials import Credentials
from entrepot.services.invitations import Invitations
from entrepot.services.last_use import LastUse
from entrepot.services.login import Login
from entrepot.services.members import Members
from entrepot.services.organisations import Organisations
from entrepot.services.session import Session
from entrepot.services.users import UserChanges, Users

PASSWORD = "correct horse battery"


@pytest.fixture
async def people(world):
    world.passwords = Passwords(CHEAPEST)
    world.login = Login(world.database, world.clock, world.passwords)
    common = (world.database, world.clock, world.access)
    world.users = Users(*common, world.passwords)
    world.members = Members(*common)
    world.invitations = Invitations(*common, world.passwords)
    world.session = Session(*common, world.login)
    world.organisations = Organisations(*common)
    return world


async def actor_of(world, token):
    credentials = Credentials(world.database, world.key, LastUse(world.database, world.clock))
    return await credentials.by_token(token)


async def owner_of_acme(world) -> Actor:
    _, secret = await world.invitations.create(OPERATOR, "acme", role=Role.OWNER)
    accepted = await world.invitations.accept(NOBODY, secret, name="olga", password=PASSWORD)
    return await actor_of(world, accepted.token)


async def actions(world):
    return [action for (action,) in await world.rows("SELECT action FROM audit_events ORDER BY id")]


async def test_an_invitation_is_open_until_its_moment(people):
    _, early = await people.invitations.create(OPERATOR, "acme", expires_in=HOUR)
    _, late = await people.invitations.create(OPERATOR, "acme", expires_in=HOUR)

    people.clock.advance(HOUR - MINUTE)
    await people.invitations.accept(NOBODY, early, name="eve", password=PASSWORD)
    people.clock.advance(2 * MINUTE)

    with pytest.raises(NotFound):
        await people.invitations.accept(NOBODY, late, name="lea", password=PASSWORD)
    found, _ = await people.invitations.page(OPERATOR, "acme", before=2**62, limit=10)
    assert found == []


@pytest.mark.parametrize("expires_in", [0, HOUR - 1, 30 * DAY + 1])
async def test_an_invitation_has_bounds(people, expires_in):
    with pytest.raises(FieldInvalid):
        await people.invitations.create(OPERATOR, "acme", expires_in=expires_in)


async def test_what_broke_the_glass_invites_for_its_hour(people):
    admin = await people.token("user", "main")
    await people.organisations.break_glass(admin, "acme", reason="nobody answers")
    admin = await people.token("user", "main")
    secrets = [
        (await people.invitations.create(admin, "acme", role=Role.OWNER))[1] for _ in range(2)
    ]

    await people.invitations.accept(NOBODY, secrets[0], name="eve", password=PASSWORD)
    people.clock.advance(HOUR + MINUTE)

    with pytest.raises(NotFound):
        await people.invitations.accept(NOBODY, secrets[1], name="lea", password=PASSWORD)
    with pytest.raises(NotFound):
        await people.members.get(OPERATOR, "acme", "admin")


async def test_a_login_ends_after_its_time(people):
    await people.users.create(OPERATOR, "ada", password=PASSWORD, is_administrator=False)
    facts, secret = await people.session.log_in(NOBODY, "ada", PASSWORD)
    actor = await actor_of(people, secret)

    people.clock.advance(90 * DAY - MINUTE)
    assert (await people.session.who(actor)).user.name == "ada"
    people.clock.advance(2 * MINUTE)

    with pytest.raises(Unauthenticated):
        await people.session.who(actor)
    assert facts.expires_at - facts.created_at == 90 * DAY


async def test_a_password_that_changes_during_a_login_ends_it(people):
    await people.users.create(OPERATOR, "ada", password=PASSWORD, is_administrator=False)

    class Slow(Login):
        async def by_password(self, name, password, address):
            account = await super().by_password(name, password, address)
            await people.users.update(
                OPERATOR, "ada", UserChanges(password="staple battery horse"), version=None
            )
            return account

    slow = Session(
        people.database,
        people.clock,
        people.access,
        Slow(people.database, people.clock, people.passwords),
    )

    with pytest.raises(Unauthenticated):
        await slow.log_in(NOBODY, "ada", PASSWORD)
    rows = await people.rows("SELECT name FROM tokens WHERE revoked_at IS NULL")
    assert [name for (name,) in rows] == ["first start"]


async def test_writes_that_run_twice_make_one_of_everything(people):
    people.database.is_twice = True

    await people.users.create(OPERATOR, "ada", password=PASSWORD, is_administrator=False)
    _, ada = await people.session.log_in(NOBODY, "ada", PASSWORD)
    made = [(await people.invitations.create(OPERATOR, "acme"))[1] for _ in range(2)]
    new = await people.invitations.accept(NOBODY, made[0], name="eve", password=PASSWORD)
    old = await people.invitations.accept(await actor_of(people, ada), made[1])

    assert (new.role, old.role) == (Role.MEMBER, Role.MEMBER)
    assert (await actor_of(people, new.token)).credential.name == "eve"
    seen = await actions(people)
    for action in ("user.logged-in", "invitation.created", "invitation.accepted"):
        assert seen.count(action) == {"user.logged-in": 1}.get(action, 2)
    assert len(await people.rows("SELECT id FROM tokens WHERE user_id IS NOT NULL")) == 3


async def test_a_user_who_exists_is_kept_by_the_password_that_was_set_twice(people):
    await people.users.create(OPERATOR, "ada", password=PASSWORD, is_administrator=False)
    _, secret = await people.session.log_in(NOBODY, "ada", PASSWORD)
    actor = await actor_of(people, secret)
    people.database.is_twice = True

    await people.session.change_password(actor, PASSWORD, "staple battery horse")

    assert (await actions(people)).count("user.password-changed") == 1
    assert await people.login.by_password("ada", "staple battery horse", "192.0.2.1")


async def test_the_operator_does_what_a_server_administrator_does(people):
    await people.users.create(OPERATOR, "ada", is_administrator=True)
    changed = await people.users.update(
        OPERATOR, "ada", UserChanges(is_administrator=False), version=None
    )
    olga = await owner_of_acme(people)

    assert changed.is_administrator is False
    with pytest.raises(Unsupported):
        await people.members.remove(OPERATOR, "acme", "olga", version=None)
    with pytest.raises(Unsupported):
        await people.members.set_role(olga, "acme", "olga", Role.READER, version=None)
    with pytest.raises(Denied):
        await people.users.update(OPERATOR, "admin", UserChanges(is_disabled=True), version=None)


async def test_who_is_held_does_not_change(people):
    made = await people.users.create(OPERATOR, "ada", is_administrator=False)

    async def held(version):
        return await people.database.write(lambda tx: users.hold(tx, made.id, version=version))

    assert await held(1)
    assert not await held(2)
    await people.users.update(OPERATOR, "ada", UserChanges(is_disabled=True), version=1)
    assert not await held(2)


def test_invitations_and_tokens_are_not_taken_for_each_other():
    invitation, token = new_invitation(), new_token(Kind.USER)

    assert is_invitation(invitation)
    assert not is_well_formed(invitation)
    assert is_well_formed(token)
    assert not is_invitation(token)
    assert not is_invitation(invitation[:-1] + ("0" if invitation[-1] != "0" else "1"))
    assert not is_invitation("")
