"""Uploads whose end nobody waited for, and what is left of them."""

import secrets
from contextlib import asynccontextmanager

import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.model.clock import DAY, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, ObjectMissing, Unavailable, UploadUnknown
from entrepot.model.names import RepositoryName
from entrepot.services.access import NOBODY
from entrepot.services.addresses import Address
from tests.support.invariants import check_invariants
from tests.support.swapped import swap

ADDRESS = Address(None, RepositoryName.parse("test/app"))


class Impatient:
    """A database whose caller does not wait for one durable write.

    It arrives just before the next write, as one in the queue of a slow disk would.
    """

    def __init__(self, database):
        self._database = database
        self._late = None
        self.is_patient = True

    def read(self, **options):
        return self._database.read(**options)

    async def write(self, work, *, durable=True):
        if durable and not self.is_patient:
            self._late, self.is_patient = work, True
            raise Unavailable("the write took too long")
        late, self._late = self._late, None
        if late is not None:
            await self._database.write(late)
        return await self._database.write(work, durable=durable)


@asynccontextmanager
async def running(data, database_url):
    environment = {
        "ENTREPOT_DATA": str(data),
        "ENTREPOT_DATABASE__URL": database_url,
        "ENTREPOT_ANONYMOUS": "push",
        "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
    }
    settings = load(None, environment)
    await prepare(settings)
    app = Application(settings, SystemClock())
    await app.database.open()
    try:
        app.access.set_default_organisation(await app.tenancy.default_organisation())
        yield app
    finally:
        await app.database.close()
        app.store.close()


async def pieces_of(content):
    yield content


async def test_a_commit_that_arrives_while_its_upload_is_cancelled_keeps_its_bytes(
    data, database_url
):
    content = secrets.token_bytes(100)
    digest = Digest.of(content)
    async with running(data, database_url) as app:
        impatient = Impatient(app.database)
        swap(app.uploads, database=impatient)
        session = await app.uploads.open(NOBODY, ADDRESS, algorithm="sha256")
        impatient.is_patient = False
        with pytest.raises(Unavailable):
            await app.uploads.commit(NOBODY, ADDRESS, session, digest, pieces_of(content), None)

        await app.uploads.cancel(session)

        check_invariants(database_url, data)


async def test_a_blob_whose_object_is_lost_is_healed_by_pushing_it_again(data, database_url):
    content = secrets.token_bytes(100)
    digest = Digest.of(content)
    async with running(data, database_url) as app:
        registry = app._oci._registry
        await push(app, content)
        repository = await registry.addresses.where(ADDRESS)
        lost = await registry.pull.blob(repository, digest)
        lost.path.unlink()

        await push(app, content)

        found = await registry.pull.blob(repository, digest)
        assert found.path.read_bytes() == content
        check_invariants(database_url, data)


async def test_a_pusher_hears_that_a_lost_object_is_not_here(data, database_url):
    content = secrets.token_bytes(100)
    digest = Digest.of(content)
    async with running(data, database_url) as app:
        registry = app._oci._registry
        await push(app, content)
        repository = await registry.addresses.where(ADDRESS)
        lost = await registry.pull.blob(repository, digest)
        lost.path.unlink()

        with pytest.raises(BlobUnknown):
            await registry.pull.blob(repository, digest, renew=True)
        with pytest.raises(ObjectMissing):
            await registry.pull.blob(repository, digest)


async def test_an_upload_goes_on_when_the_answer_to_its_commit_was_lost(data, database_url):
    content = secrets.token_bytes(100)
    async with running(data, database_url) as app:
        swap(app.uploads, database=Repeating(app.database))

        await push(app, content)

        check_invariants(database_url, data)


async def test_a_repeated_put_meets_the_first_one_when_that_has_just_ended(data, database_url):
    content = secrets.token_bytes(100)
    digest = Digest.of(content)
    async with running(data, database_url) as app:
        found = await app.uploads.open(NOBODY, ADDRESS, algorithm="sha256")
        call = (NOBODY, ADDRESS, found, digest)
        await app.uploads.commit(*call, pieces_of(content), None)

        assert await app.uploads.commit(*call, pieces_of(content), None) == []

        with pytest.raises(UploadUnknown):
            await app.uploads.commit(
                NOBODY, ADDRESS, found, Digest.of(b"other"), pieces_of(b"other"), None
            )
        check_invariants(database_url, data)


async def test_an_upload_that_cannot_be_removed_keeps_no_other(data, database_url):
    async with running(data, database_url) as app:
        first, second = [await app.uploads.open(NOBODY, ADDRESS, algorithm="sha256") for _ in "12"]
        for session in (first, second):
            await app.uploads.append(session, pieces_of(b"some"), None)
        file = data / "uploads" / first.storage_key
        file.unlink()
        file.mkdir()  # which no unlink removes
        swap(app.uploads, clock=Later())

        assert await app.uploads.sweep() == 1
        file.rmdir()
        assert await app.uploads.sweep() == 1

        assert not list((data / "uploads").iterdir())
        assert await app.uploads.count_open() == 0


async def test_a_stray_file_that_cannot_be_removed_keeps_no_other(data, database_url):
    async with running(data, database_url) as app:
        folder = data / "uploads"
        strange = folder / ("5" * 32)  # which no unlink removes
        strange.mkdir()
        for digit in "3478":
            (folder / (digit * 32)).touch()
        swap(app.uploads, clock=Later())

        assert await app.uploads.sweep_strays() == 4

        assert list(folder.iterdir()) == [strange]


class Later:
    def now(self):
        return SystemClock().now() + 30 * DAY


class Repeating:
    """A database that runs everything twice, as after a COMMIT of unknown outcome."""

    def __init__(self, database):
        self._database = database

    def read(self, **options):
        return self._database.read(**options)

    async def write(self, work, **options):
        await self._database.write(work, **options)
        return await self._database.write(work, **options)


async def push(app, content):
    """POST, PATCH, PUT."""
    session = await app.uploads.open(NOBODY, ADDRESS, algorithm="sha256")
    after = await app.uploads.append(session, pieces_of(content), None)
    await app.uploads.commit(NOBODY, ADDRESS, after, Digest.of(content), pieces_of(b""), None)
