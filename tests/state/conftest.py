"""A registry after its first start, to copy for each example: a data folder and a database."""

import asyncio
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from entrepot.app import prepare
from entrepot.config import Settings
from tests.support.efforts import effort as effort  # noqa: PLC0414  # a fixture
from tests.support.postgres import DATABASES, new_database


def settings_for(data: Path, database_url: str, anonymous: str) -> Settings:
    return Settings.model_validate(
        {
            "data": data,
            "database": {"url": database_url, "pool_size": 2},
            "blobs": {"low_water_bytes": 0},
            "public_url": "http://registry.test",
            "anonymous": anonymous,
            "anonymous_force": True,
            "uploads": {"expire_seconds": 7 * 86_400},
        }
    )


@pytest.fixture(scope="module", params=DATABASES)
def new_registry(request, tmp_path_factory):
    """Makes the settings of a fresh registry; it goes when the context ends."""
    first = tmp_path_factory.mktemp("first")
    kind = request.param
    if kind == "sqlite":
        asyncio.run(prepare(settings_for(first, f"sqlite:///{first}/entrepot.db", "")))

        @contextmanager
        def fresh(anonymous):
            with TemporaryDirectory(prefix="entrepot-state-") as folder:
                data = Path(shutil.copytree(first, Path(folder) / "data"))
                yield settings_for(data, f"sqlite:///{data}/entrepot.db", anonymous)

        yield fresh
        return
    server = request.getfixturevalue("postgres_server")
    with new_database(server) as template:
        asyncio.run(prepare(settings_for(first, template, "")))

        @contextmanager
        def fresh_on_postgres(anonymous):
            with (
                TemporaryDirectory(prefix="entrepot-state-") as folder,
                new_database(server, template=template.rpartition("/")[2]) as url,
            ):
                data = Path(shutil.copytree(first, Path(folder) / "data"))
                yield settings_for(data, url, anonymous)

        yield fresh_on_postgres
