"""Both places of the bytes: a folder, and a bucket of a real S3 server."""

import pytest

from entrepot.blobs.disk import DiskStore
from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.store import BlobStore
from tests.blobs.places import PREFIX, place_of


@pytest.fixture(params=["disk", pytest.param("objects", marks=pytest.mark.slow)])
def new_store(request, tmp_path):
    """Makes a store on the same bytes each time, as another process or node would."""
    place = place_of(request.getfixturevalue("bucket")) if request.param == "objects" else None
    stores: list[BlobStore] = []

    def make() -> BlobStore:
        stores.append(
            ObjectStore(place)
            if place
            else DiskStore(tmp_path / "blobs", tmp_path / "uploads", low_water_bytes=0)
        )
        return stores[-1]

    make().prepare()
    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(new_store):
    return new_store()


@pytest.fixture
def object_store(bucket):
    """An object store, for what a folder has not."""
    store = ObjectStore(place_of(bucket))
    yield store
    store.close()


@pytest.fixture
def bucket_or_folder(request, tmp_path, store):
    """Puts something among the objects that is not ours."""

    def put(name: str) -> None:
        if isinstance(store, DiskStore):
            (tmp_path / "blobs" / name).write_text("hello")
            return
        bucket = request.getfixturevalue("bucket")
        bucket.client().put_object(Bucket=bucket.name, Key=f"{PREFIX}/{name}", Body=b"hello")

    return put
