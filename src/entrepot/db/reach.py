"""Whether a database takes us in, and if not, what its operator has to do."""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from entrepot.db.connect import is_sqlite, sqlite_path
from entrepot.db.migrate import REVISIONS
from entrepot.model.errors import SettingsInvalid, StartRefused

if TYPE_CHECKING:
    import psycopg

SETTING = "ENTREPOT_DATABASE__URL"

_MAGIC = b"SQLite format 3\0"
_PATIENCE_SECONDS = 10.0  # a database that starts together with us
_PAUSE_SECONDS = 0.5
_SECONDS = 10.0  # for one look


async def require_reachable(url: str, *, patience: float = _PATIENCE_SECONDS) -> None:
    """Raises StartRefused, with what to do, unless the database takes us in.

    A server that does not answer yet is waited for; one that refuses us is not asked twice.
    """
    if is_sqlite(url):
        _require_file(sqlite_path(url))
    else:
        await _require_server(url, patience)


def _require_file(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise StartRefused(
            f"there is no folder {folder} for the database; make it, or correct {SETTING}"
        )
    if path.exists() and not path.is_file():
        raise StartRefused(f"{path} is no file, so no database; correct {SETTING}")
    if path.exists() and path.stat().st_size and not _is_sqlite_file(path):
        raise StartRefused(
            f"{path} is no SQLite database; restore it from the backup, or correct {SETTING}"
        )
    for place in (path, folder):
        if place.exists() and not os.access(place, os.R_OK | os.W_OK):
            raise StartRefused(
                f"this user may not read and write {place}, which the database needs;"
                f" run as its owner, or: chown -R $(id -u) {folder}"
            )


def _is_sqlite_file(path: Path) -> bool:
    if not os.access(path, os.R_OK):
        return True  # that is told by itself
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


async def _require_server(url: str, patience: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while (refusal := await _refusal(url)) is not None:
        if refusal.is_final or loop.time() >= deadline:
            raise StartRefused(
                f"the database does not let us in ({refusal.said}); {refusal.remedy}"
            )
        await asyncio.sleep(_PAUSE_SECONDS)


async def _refusal(url: str) -> "_Refusal | None":
    """What the server has against us, if anything. Raises StartRefused for what cannot change."""
    import psycopg  # noqa: PLC0415 - loads a driver

    from entrepot.db.postgres_pool import parameters_of  # noqa: PLC0415

    try:
        parameters: dict[str, Any] = parameters_of(url)
    except SettingsInvalid:
        raise StartRefused(
            f"{SETTING} cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/NAME, with %XX"
            " in place of letters such as @ and / in the password"
        ) from None
    try:
        async with asyncio.timeout(_SECONDS):
            async with await psycopg.AsyncConnection.connect(
                **{**parameters, "application_name": "entrepot start"}, autocommit=True
            ) as connection:
                await _require_fit(connection)
    except (psycopg.Error, TimeoutError) as error:
        return _Refusal.of(_one_line(str(error)) or "it did not answer in time")
    return None


async def _require_fit(connection: "psycopg.AsyncConnection[tuple[object, ...]]") -> None:
    """Raises StartRefused for a user who may not make our tables, or change them when it has to."""
    cursor = await connection.execute(
        """
        SELECT current_user,
               current_database(),
               (SELECT pg_has_role(relowner, 'USAGE')
                  FROM pg_class
                 WHERE oid = to_regclass('alembic_version')),
               COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)
        """
    )
    ((user, name, is_owner, may_create),) = await cursor.fetchall()
    if is_owner is None and not may_create:
        raise StartRefused(
            f"the user {user} may make no tables in the database {name}; run as its administrator:"
            f' ALTER DATABASE "{name}" OWNER TO "{user}"'
        )
    if is_owner is False:
        cursor = await connection.execute("SELECT version_num FROM alembic_version")
        (found,) = await cursor.fetchone() or (None,)
        if found in REVISIONS[:-1]:
            raise StartRefused(
                f"the tables in the database {name} must be changed for this version, which the"
                f" user {user} may not; start once as their owner, or make {user} a member of it"
            )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What was said, and what to do about it; final: no waiting helps."""

    said: str
    remedy: str
    is_final: bool

    @classmethod
    def of(cls, said: str) -> Self:
        for pattern, is_final, remedy in _REFUSALS:
            if re.search(pattern, said):
                return cls(said, remedy, is_final)
        return cls(said, f"start it, or correct host and port in {SETTING}", is_final=False)


# By what servers say. One that speaks another language than this is waited for in vain.
_REFUSALS: tuple[tuple[str, bool, str], ...] = (
    (
        "authentication failed|no password supplied",
        True,
        f"correct user and password in {SETTING}",
    ),
    (
        'database ".*" does not exist|no such database',
        True,
        f"make it with `createdb`, owned by our user, or correct its name in {SETTING}",
    ),
    (
        'role ".*" does not exist',
        True,
        f"make it with `createuser`, or correct the user in {SETTING}",
    ),
    (
        "permission denied for database",
        True,
        "let its owner run: GRANT CONNECT ON DATABASE … TO …, with the names that it says",
    ),
    (
        r"no pg_hba\.conf entry",
        True,
        "let its pg_hba.conf admit this machine's address, user and database",
    ),
    (
        "certificate verify|support SSL|SSL error",
        True,
        f"correct sslmode and sslrootcert in {SETTING}",
    ),
    (
        "resolve|translate host name|not known",
        False,
        f"correct the host in {SETTING}, or this machine's DNS",
    ),
    (
        "hot standby|read-only",
        False,
        f"name the primary in {SETTING}, or all of its hosts: postgresql://…@HOST,HOST/NAME",
    ),
    (
        "too many (connections|clients)|connection slots",
        False,
        "raise its max_connections, or lower database.pool_size or workers",
    ),
)


def _one_line(text: str) -> str:
    """What the driver says, without its advice and its list of attempts."""
    first = text.partition("Multiple connection attempts failed")[0]
    return re.sub(r"\s+", " ", first.partition("\n\t")[0]).strip()
