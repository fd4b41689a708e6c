"""Tokens that tokens make: however long the chain, none may more than the one before (T56)."""

import asyncio
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.db import tokens as token_rows
from entrepot.db.connect import connect
from entrepot.db.migrate import migrate
from entrepot.identity.tokens import hash_token
from entrepot.model.access import Action, Actor, Credential, Kind, Place, Repository, Role
from entrepot.model.clock import HOUR, MINUTE
from entrepot.model.errors import Denied, FieldInvalid, NotFound
from entrepot.services.access import OPERATOR, Access
from entrepot.services.addresses import Addresses
from entrepot.services.tenancy import Tenancy
from entrepot.services.tokens import TokenRequest, Tokens
from tests.support.clock import FakeClock

PATHS = ("app", "team/app", "team/web", "linked")
PATTERNS = ("**", "team/*", "app", "x")
WORDS = ("pull", "push", "delete", "manage")
KINDS = (Kind.USER, Kind.ORGANISATION, Kind.PROJECT, Kind.PULL)

requests: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    kind=st.sampled_from(KINDS),
    organisation=st.sampled_from(["one", "two"]),
    project=st.sampled_from([None, 0, 1]),
    patterns=st.none() | st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple),
    actions=st.none() | st.frozensets(st.sampled_from(WORDS), min_size=1),
    expires_in=st.none() | st.sampled_from([MINUTE, 2 * MINUTE, HOUR]),
    may_manage=st.booleans(),
)


@dataclass(frozen=True, slots=True)
class Spot:
    """What the chain is judged on: an organisation as a whole, a place, a repository."""

    organisation_id: int
    where: Place | Repository | None


class Scene:
    """A database with two organisations, two projects in each, and the services of tokens."""

    def __init__(self, database, clock):
        self.database, self.clock = database, clock
        self.addresses = Addresses(database)
        self.access = Access(clock, self.addresses)
        self.tokens = Tokens(database, clock, self.access)
        self.organisations: dict[str, int] = {}
        self.projects: dict[str, list[str]] = {}
        self.ids: dict[str, int] = {}

    async def prepare(self):
        tenancy = Tenancy(self.database, self.clock)
        for slug in ("one", "two"):
            self.organisations[slug] = await tenancy.add_organisation(slug)
            self.projects[slug] = [await tenancy.add_project(slug, name) for name in "ab"]
        async with self.database.read() as tx:
            rows = await tx.fetch_all("SELECT public_id, id FROM projects")
        self.ids = {str(row[0]): int(row[1]) for row in rows}

    def places(self):
        """Everything that a right can be about."""
        for slug, organisation_id in self.organisations.items():
            yield Spot(organisation_id, None)
            for creators in (Role.MEMBER, Role.ADMIN):
                for path in PATHS:
                    yield Spot(organisation_id, Place(organisation_id, path, None, creators))
                for public_id in self.projects[slug]:
                    project_id = self.ids[public_id]
                    place = Place(organisation_id, public_id, project_id, creators)
                    yield Spot(organisation_id, place)
            for number, path in enumerate(PATHS):
                repository = Repository(organisation_id + number, organisation_id, path)
                yield Spot(organisation_id, repository)

    def rights(self, credential):
        """What a credential may, everywhere."""
        return {
            (place, action)
            for place in self.places()
            for action in (
                self.access.allowed_in(credential, place.organisation_id)
                if place.where is None
                else self.access.allowed(credential, place.where)
            )
        }

    async def user(self, role_one, role_two, ends):
        """A new user with these roles, by a token of their own."""
        name = f"user{self.clock.time}"
        self.clock.advance(1)
        async with self.database.read() as tx:
            count = await tx.fetch_one("SELECT COUNT(*) FROM users")
        user_id = 1_000 + int(count[0])

        async def work(tx):
            await tx.execute(
                "INSERT INTO users (id, name, is_administrator, created_at) VALUES (:i, :n, 0, 0)",
                i=user_id,
                n=f"{name}-{user_id}",
            )
            for slug, role in (("one", role_one), ("two", role_two)):
                if role is not None:
                    await tx.execute(
                        """
                        INSERT INTO memberships (organisation_id, user_id, role, created_at,
                                                 expires_at)
                        VALUES (:o, :u, :r, 0, :e)
                        """,
                        o=self.organisations[slug],
                        u=user_id,
                        r=str(role),
                        e=self.clock.now() + HOUR if ends and slug == "one" else None,
                    )

        await self.database.write(work)
        return await self.made(OPERATOR, {"kind": Kind.USER, "user": f"{name}-{user_id}"})

    async def made(self, actor, request):
        _, secret = await self.tokens.create(actor, TokenRequest(**request))
        async with self.database.read() as tx:
            credential = await token_rows.find_by_hash(tx, hash_token(secret))
        assert credential
        return Actor(credential, expires_at=credential.expires_at)

    def as_request(self, wanted):
        request = dict(wanted)
        if request["kind"] is Kind.USER:
            request["organisation"] = None
        if request["project"] is not None:
            slug = request["organisation"] or "one"
            request["project"] = self.projects[slug][request["project"]]
        return request


@pytest.fixture(scope="module")
def database_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("chains") / "entrepot.db"
    asyncio.run(migrate(f"sqlite:///{file}"))
    return file


def ends_of(credential: Credential, organisation_id: int | None) -> int:
    """When a credential, or its owner's role there, ends."""
    ends = [credential.expires_at or 2**62]
    if organisation_id is not None:
        ends.append(credential.role_ends.get(organisation_id, 2**62))
    return min(ends)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(Role),
    st.none() | st.sampled_from(Role),
    st.booleans(),
    st.lists(st.tuples(requests, st.integers(0, 10)), min_size=1, max_size=8),
)
def test_no_token_makes_one_that_may_more(database_file, role_one, role_two, ends, wanted):
    async def run():
        copy = database_file.with_name("copy.db")
        shutil.copy(database_file, copy)
        database = connect(f"sqlite:///{copy}", pool_size=1)
        await database.open()
        try:
            await chain(Scene(database, FakeClock()), role_one, role_two, ends, wanted)
        finally:
            await database.close()
            for left in copy.parent.glob("copy.db*"):
                left.unlink()

    asyncio.run(run())


async def chain(scene, role_one, role_two, ends, wanted):
    await scene.prepare()
    actors = [await scene.user(role_one, role_two, ends)]
    first = scene.rights(actors[0].credential)

    for request, number in wanted:
        maker = actors[number % len(actors)]
        try:
            made = await scene.made(maker, scene.as_request(request))
        except (Denied, NotFound, FieldInvalid):
            continue
        child, parent = made.credential, maker.credential
        assert scene.rights(child) <= scene.rights(parent) <= first
        # What is bound to an organisation outlives neither such a maker nor a role that ends.
        if parent.kind is Kind.ORGANISATION:
            assert ends_of(child, None) <= ends_of(parent, None)
        if child.kind is not Kind.USER:
            role_ends = parent.role_ends.get(child.organisation_id, 2**62)
            assert ends_of(child, None) <= role_ends
        actors.append(made)


def test_the_scene_lets_tokens_be_made(database_file):
    """Else the chains above would show nothing: an owner makes each kind, and a token of a token."""

    async def run():
        copy = database_file.with_name("one.db")
        shutil.copy(database_file, copy)
        database = connect(f"sqlite:///{copy}", pool_size=1)
        await database.open()
        try:
            scene = Scene(database, FakeClock())
            await scene.prepare()
            owner = await scene.user(Role.OWNER, None, ends=False)
            found = [
                await scene.made(owner, {"kind": kind, "organisation": "one", "project": project})
                for kind, project in (
                    (Kind.ORGANISATION, None),
                    (Kind.PROJECT, scene.projects["one"][0]),
                    (Kind.PULL, None),
                )
            ]
            managing = await scene.made(
                owner, {"kind": Kind.ORGANISATION, "organisation": "one", "may_manage": True}
            )
            found.append(await scene.made(managing, {"kind": Kind.PULL, "organisation": "one"}))
            assert all(scene.rights(made.credential) for made in found)
            assert any(
                action is Action.MANAGE_TOKENS for _, action in scene.rights(managing.credential)
            )
        finally:
            await database.close()

    asyncio.run(run())
