"""The registry of this machine, for commands that work on it without a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from entrepot.config import Settings, load
from entrepot.db.connect import connect
from entrepot.db.database import Database
from entrepot.db.migrate import check
from entrepot.model.errors import StartRefused

config_option = click.option("--config", type=Path, help="Settings file (TOML).")


def settings_of_existing(config: Path | None) -> Settings:
    """The settings of a registry that was started before. Raises StartRefused."""
    settings = load(config)
    require_existing(settings)
    return settings


def require_existing(settings: Settings) -> None:
    """Raises StartRefused where no registry was ever started."""
    file = settings.database.sqlite_file
    if file is not None and not file.exists():
        raise StartRefused(
            f"there is no registry in {settings.data}; start one with `entrepot serve`, "
            "or say where it is with ENTREPOT_DATA"
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
