"""Uploads that lie on another file system than objects."""

import os
from pathlib import Path

import pytest

from entrepot.blobs.disk import DiskStore
from entrepot.model.errors import StorageFull
from entrepot.model.stored import Segment

CONTENT = b"bytes" * 1000


@pytest.fixture
def store(tmp_path, monkeypatch):
    rename = Path.rename

    def elsewhere(path, target):
        if path.parent.name == "uploads":
            raise OSError(18, os.strerror(18))  # EXDEV
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", elsewhere)
    store = DiskStore(tmp_path / "blobs", tmp_path / "uploads", low_water_bytes=0)
    store.prepare()
    yield store
    store.close()


async def uploaded(store, key):
    async def pieces():
        yield CONTENT

    upload = store.upload(key)
    upload.open(is_new=True)
    try:
        await upload.append(pieces(), 0, [])
        await upload.commit()
    finally:
        await upload.close()


async def test_an_upload_is_copied_to_its_object(store, tmp_path):
    key = store.new_key()

    await uploaded(store, key)

    assert store.open([Segment(0, len(CONTENT), key)]).path.read_bytes() == CONTENT
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_copy_that_finds_no_room_leaves_no_half(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("shutil.copyfileobj", full)

    with pytest.raises(StorageFull):
        await uploaded(store, store.new_key())

    assert list((tmp_path / "blobs").glob("*/*")) == []
