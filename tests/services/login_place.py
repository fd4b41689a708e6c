"""A database, a clock and people with passwords, for the tests of logging in."""

import asyncio

import pytest
from argon2.profiles import CHEAPEST

from entrepot.db import users
from entrepot.db.connect import connect
from entrepot.identity.passwords import Passwords
from entrepot.model.errors import TooManyRequests, Unauthenticated, Unavailable
from entrepot.model.ids import new_id
from entrepot.services.login import Login
from tests.support.clock import FakeClock

RIGHT = "correct horse"
HOME = "192.0.2.1"
ELSEWHERE = "198.51.100.7"


class CountingPasswords(Passwords):
    """Counts how many passwords were looked at."""

    def __init__(self):
        super().__init__(CHEAPEST)
        self.looked_at = 0
        self.meanwhile = None
        self.began = asyncio.Event()

    async def verify(self, password_hash, password):
        self.looked_at += 1
        self.began.set()
        if self.meanwhile is not None:
            await self.meanwhile()
        return await super().verify(password_hash, password)


class Failing:
    """A database whose writes fail as told: `before` they begin, or `after` the COMMIT."""

    def __init__(self, database):
        self._database = database
        self.plan = []

    def __getattr__(self, name):
        return getattr(self._database, name)

    async def write(self, work, *, durable=True):
        step = self.plan.pop(0) if self.plan else ""
        if step == "before":
            raise Unavailable("the database does not answer")
        if step == "twice":
            await self._database.write(work, durable=durable)
        result = await self._database.write(work, durable=durable)
        if step == "after":
            raise Unavailable("the connection to the database was lost")
        return result


class Place:
    """A database, a clock, delays that are noted rather than waited for, and words for tests."""

    def __init__(self, database):
        self.database = Failing(database)
        self.clock = FakeClock()
        self.passwords = CountingPasswords()
        self.delays = []
        self.login = self.another_node()

    def another_node(self):
        return Login(self.database, self.clock, self.passwords, sleep=self._sleep)

    async def _sleep(self, seconds):
        self.delays.append(seconds)

    async def user(self, name, password=RIGHT, *, is_disabled=False):
        user_id = new_id()
        kept = await self.passwords.hash(name, password) if password else None

        async def work(tx):
            await users.add(
                tx, id=user_id, name=name, is_administrator=False, now=1, password_hash=kept
            )
            if is_disabled:
                await tx.execute("UPDATE users SET disabled_at = 1 WHERE id = :id", id=user_id)

        await self.database.write(work)
        return user_id

    async def guess(self, name="ada", address=HOME, password="wrong horse"):
        with pytest.raises(Unauthenticated) as refused:
            await self.login.by_password(name, password, address)
        return refused.value

    async def refusal(self, name="ada", address=HOME, password=RIGHT):
        with pytest.raises(TooManyRequests) as refused:
            await self.login.by_password(name, password, address)
        return refused.value

    async def attempts(self):
        async with self.database.read() as tx:
            rows = await tx.fetch_all("SELECT account, address FROM login_attempts WHERE at > 0")
        return sorted(rows)


@pytest.fixture
async def place(database_url):
    database = connect(database_url, pool_size=4)
    await database.open()
    yield Place(database)
    await database.close()
