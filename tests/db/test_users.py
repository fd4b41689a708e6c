"""Users, their flags and their versions."""

import pytest

from entrepot.db import users
from entrepot.model.errors import Conflict
from entrepot.model.tenancy import User


@pytest.fixture
async def people(database):
    async def work(tx):
        for number, name in enumerate(("cyd", "ada", "bob"), start=1):
            await users.add(tx, id=number, name=name, is_administrator=name == "ada", now=7)

    await database.write(work)
    return database


async def test_a_user_is_found_by_name_and_by_id(people):
    async with people.read() as tx:
        by_name = await users.find_by_name(tx, "ada")
        by_id = await users.get(tx, 2)
        nobody = [await users.find_by_name(tx, "dan"), await users.get(tx, 9)]

    assert by_name == by_id == User(2, "ada", True, False, 7, None, 1)
    assert nobody == [None, None]


async def test_a_name_is_taken_once(people):
    with pytest.raises(Conflict):
        await people.write(
            lambda tx: users.add(tx, id=9, name="ada", is_administrator=False, now=1)
        )


async def test_pages_are_by_name(people):
    async with people.read() as tx:
        first = await users.page(tx, after="", limit=2)
        rest = await users.page(tx, after=first[-1].name, limit=2)

    assert [user.name for user in first] == ["ada", "bob"]
    assert [user.name for user in rest] == ["cyd"]


async def test_a_change_needs_the_present_version(people):
    async def flags(version):
        return await people.write(
            lambda tx: users.set_flags(
                tx, 2, is_administrator=False, disabled_at=11, version=version
            )
        )

    async def password(version):
        return await people.write(lambda tx: users.set_password(tx, 2, "hash", version=version))

    assert [await flags(1), await flags(1), await password(1), await password(2)] == [
        True,
        False,
        False,
        True,
    ]
    async with people.read() as tx:
        user, account = await users.get(tx, 2), await users.get_account(tx, 2)
    assert user == User(2, "ada", False, True, 7, 11, 3)
    assert account is not None
    assert (account.password_hash, account.is_disabled, account.version) == ("hash", True, 3)


async def test_a_hash_is_not_shown(people):
    await people.write(lambda tx: users.set_password(tx, 1, "$argon2id$x", version=1))

    async with people.read() as tx:
        account = await users.get_account(tx, 1)

    assert "argon2id" not in repr(account)
