"""The token of the first start, in its file before its hash is in the database."""

import os
from pathlib import Path

import pytest

from entrepot.app import prepare
from entrepot.config import load
from entrepot.db.connect import connect
from entrepot.model.errors import StorageFailed


@pytest.fixture
def settings(tmp_path):
    return load(None, {"ENTREPOT_DATA": str(tmp_path)})


async def test_its_name_is_on_the_disk_too(settings, monkeypatch):
    synced = []
    fsync = os.fsync

    def noting(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    await prepare(settings)

    (draft,) = [path for path in synced if path.name.startswith(".admin.token.")]
    assert settings.data in synced[synced.index(draft) :]
    assert (settings.data / "admin.token").stat().st_mode & 0o777 == 0o600


async def test_where_it_cannot_be_written_nothing_is_begun(settings):
    (settings.data / "admin.token").mkdir()

    with pytest.raises(StorageFailed, match=r"admin\.token"):
        await prepare(settings)

    database = connect(settings.database.url, pool_size=1)
    await database.open()
    async with database.read(scan=True) as tx:
        assert await tx.fetch_all("SELECT id FROM tokens") == []
    await database.close()
