"""The registry of this machine, for commands that work on it without a server."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import click

from entrepot.config import Settings, environment_name, load
from entrepot.db.connect import connect
from entrepot.db.database import Database
from entrepot.db.migrate import check
from entrepot.model.errors import StartRefused

_DATA = "entrepot.data"  # what `--data` said, in the context's meta


def _note(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    ctx.meta[_DATA] = value


def config_option(command: Callable[..., None]) -> Callable[..., None]:
    """Where the registry is: `--config FILE`, or `--data DIR` as `serve` has it."""
    data = click.option(
        "--data",
        type=Path,
        expose_value=False,
        callback=_note,
        help="Data folder [./data].",
    )
    return data(click.option("--config", type=Path, help="Settings file (TOML).")(command))


def read_settings(config: Path | None) -> Settings:
    """The settings that a command with `config_option` was given."""
    data = click.get_current_context().meta[_DATA]
    typed = {} if data is None else {environment_name("data"): str(data)}
    return load(config, {**os.environ, **typed})


def settings_of_existing(config: Path | None) -> Settings:
    """The settings of a registry that was started before. Raises StartRefused."""
    settings = read_settings(config)
    require_existing(settings)
    return settings


def require_existing(settings: Settings) -> None:
    """Raises StartRefused where no registry was ever started."""
    file = settings.database.sqlite_file
    if file is None:
        return
    try:
        exists = file.exists()
    except PermissionError:
        raise StartRefused(
            f"this user may not look into {file.parent}; run this as the server's user"
        ) from None
    if not exists:
        raise StartRefused(
            f"there is no registry in {settings.data}; start one with `entrepot serve`, "
            "or say where it is with --data, or ENTREPOT_DATA"
        )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """Its database, once its schema is known to be ours. Raises StartRefused, Unavailable."""
    await check(settings.database.url)
    database = connect(settings.database.url, pool_size=1)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
