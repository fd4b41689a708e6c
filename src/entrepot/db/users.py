"""Users: who they are, their passwords and their flags."""

from dataclasses import dataclass, field

from entrepot.db.database import Row, Transaction
from entrepot.model.tenancy import User

_USER = """
    SELECT id, name, is_administrator, password_hash IS NOT NULL, created_at, disabled_at, version
      FROM users
"""
_ACCOUNT = """
    SELECT id, name, password_hash, disabled_at, version
      FROM users
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What checking a password needs to know. The hash is in no log."""

    id: int
    name: str
    password_hash: str | None = field(repr=False)
    is_disabled: bool
    version: int


async def find(tx: Transaction, name: str) -> int | None:
    """The id of the user of this name, disabled or not."""
    row = await tx.fetch_one("SELECT id FROM users WHERE name = :name", name=name)
    return int(row[0] or 0) if row else None


async def find_by_name(tx: Transaction, name: str) -> User | None:
    """The user of this name, disabled or not."""
    return _user(await tx.fetch_one(f"{_USER} WHERE name = :name", name=name))


async def get(tx: Transaction, user_id: int) -> User | None:
    """The user with this id, disabled or not."""
    return _user(await tx.fetch_one(f"{_USER} WHERE id = :user_id", user_id=user_id))


async def page(tx: Transaction, *, after: str, limit: int) -> list[User]:
    """Up to `limit` users whose names follow `after`, by name; disabled ones too."""
    rows = await tx.fetch_all(
        f"{_USER} WHERE name > :after ORDER BY name LIMIT :limit", after=after, limit=limit
    )
    return [user for user in map(_user, rows) if user is not None]


async def find_account(tx: Transaction, name: str) -> Account | None:
    """The account of this name, disabled or not."""
    return _account(await tx.fetch_one(f"{_ACCOUNT} WHERE name = :name", name=name))


async def get_account(tx: Transaction, user_id: int) -> Account | None:
    """The account of this user, disabled or not."""
    return _account(await tx.fetch_one(f"{_ACCOUNT} WHERE id = :user_id", user_id=user_id))


async def add(
    tx: Transaction,
    *,
    id: int,  # noqa: A002  # the column's name
    name: str,
    is_administrator: bool,
    now: int,
    password_hash: str | None = None,
) -> None:
    """Create a user. Raises Conflict."""
    await tx.execute(
        """
        INSERT INTO users (id, name, is_administrator, created_at, password_hash)
        VALUES (:id, :name, :is_administrator, :now, :password_hash)
        """,
        id=id,
        name=name,
        is_administrator=int(is_administrator),
        now=now,
        password_hash=password_hash,
    )


async def set_password(
    tx: Transaction, user_id: int, password_hash: str | None, *, version: int
) -> bool:
    """Give a user another password, or none; False when the row is not of this version."""
    changed = await tx.execute(
        """
        UPDATE users
           SET password_hash = :password_hash, version = version + 1
         WHERE id = :user_id
           AND version = :version
        """,
        password_hash=password_hash,
        user_id=user_id,
        version=version,
    )
    return changed > 0


async def refresh_hash(tx: Transaction, user_id: int, password_hash: str, *, previous: str) -> None:
    """Keep the same password under another hash; the version stays, since nobody sees it."""
    await tx.execute(
        """
        UPDATE users
           SET password_hash = :password_hash
         WHERE id = :user_id
           AND password_hash = :previous
        """,
        password_hash=password_hash,
        user_id=user_id,
        previous=previous,
    )


async def set_flags(
    tx: Transaction,
    user_id: int,
    *,
    is_administrator: bool,
    disabled_at: int | None,
    version: int,
) -> bool:
    """Change what a user is; False when the row is not of this version. Time in µs."""
    changed = await tx.execute(
        """
        UPDATE users
           SET is_administrator = :is_administrator,
               disabled_at = :disabled_at,
               version = version + 1
         WHERE id = :user_id
           AND version = :version
        """,
        is_administrator=int(is_administrator),
        disabled_at=disabled_at,
        user_id=user_id,
        version=version,
    )
    return changed > 0


async def hold(tx: Transaction, user_id: int, *, version: int) -> bool:
    """Keep a user from changing until this transaction ends.

    False when the row is not of this version, or the user is disabled.
    """
    found = await tx.execute(
        """
        UPDATE users
           SET version = version
         WHERE id = :user_id
           AND version = :version
           AND disabled_at IS NULL
        """,
        user_id=user_id,
        version=version,
    )
    return found > 0


async def lock_administrators(tx: Transaction) -> frozenset[int]:
    """Lock the enabled server administrators until this transaction ends; who they are.

    Whoever takes one away asks first, so that two who go at once do not leave none.
    """
    rows = await tx.fetch_all(
        """
        UPDATE users
           SET version = version
         WHERE is_administrator = 1
           AND disabled_at IS NULL
        RETURNING id
        """
    )
    return frozenset(int(row[0] or 0) for row in rows)


def _user(row: Row | None) -> User | None:
    if row is None:
        return None
    user_id, name, is_administrator, has_password, created_at, disabled_at, version = row
    return User(
        id=int(user_id or 0),
        name=str(name),
        is_administrator=bool(is_administrator),
        has_password=bool(has_password),
        created_at=int(created_at or 0),
        disabled_at=int(disabled_at) if disabled_at is not None else None,
        version=int(version or 0),
    )


def _account(row: Row | None) -> Account | None:
    if row is None:
        return None
    user_id, name, password_hash, disabled_at, version = row
    return Account(
        id=int(user_id or 0),
        name=str(name),
        password_hash=str(password_hash) if password_hash is not None else None,
        is_disabled=disabled_at is not None,
        version=int(version or 0),
    )
