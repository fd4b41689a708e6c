"""The services on a database of each kind, with a clock that the test turns.

Tests of what becomes of bytes are marked to run on an object store as well, with PostgreSQL.
"""

from types import SimpleNamespace

import pytest

from entrepot.blobs.disk import DiskStore
from entrepot.blobs.objects import ObjectStore
from entrepot.db.connect import connect
from entrepot.identity.bearer import BearerKey
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.identity.tokens import new_token
from entrepot.model.access import Kind
from entrepot.model.clock import DAY
from entrepot.model.digests import Digest
from entrepot.model.names import RepositoryName
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses
from entrepot.services.credentials import Credentials
from entrepot.services.delete import Delete
from entrepot.services.last_use import LastUse
from entrepot.services.mount import Mount
from entrepot.services.push import Push
from entrepot.services.tenancy import Tenancy
from entrepot.services.tokens import TokenRequest
from entrepot.services.uploads import UploadLimits, Uploads
from tests.blobs.places import PREFIX, place_of
from tests.support.clock import FakeClock
from tests.support.efforts import effort as effort  # noqa: PLC0414  # a fixture
from tests.support.kept import KeptFiles, KeptObjects

on_every_store = pytest.mark.parametrize(
    ("store_kind", "database_url"),
    [
        ("disk", "sqlite"),
        ("disk", "postgres"),
        pytest.param("objects", "postgres", marks=pytest.mark.slow),
    ],
    indirect=["database_url"],
)


@pytest.fixture
def store_kind():
    return "disk"


class Twice:
    """A database whose every write runs twice, as after a COMMIT that nobody heard of."""

    def __init__(self, database):
        self._database = database
        self.is_twice = False

    def __getattr__(self, name):
        return getattr(self._database, name)

    async def write(self, work, *, durable=True):
        if self.is_twice:
            await self._database.write(work, durable=durable)
        return await self._database.write(work, durable=durable)


class World(SimpleNamespace):
    """All services, and short words for what tests do with them."""

    async def token(self, kind, organisation, **fields):
        request = TokenRequest(kind=Kind(kind), organisation=organisation, **fields)
        return await Credentials(
            self.database, self.key, LastUse(self.database, self.clock)
        ).by_token(await self.tenancy.add_token(request))

    async def upload(self, actor, address, content):
        async def pieces():
            yield content

        session = await self.uploads.open(actor, address, algorithm="sha256")
        digest = Digest.of(content)
        await self.uploads.commit(actor, address, session, digest, pieces(), None)
        return digest

    async def rows(self, sql, **values):
        async with self.database.read() as tx:
            return await tx.fetch_all(sql, **values)

    async def bytes_of(self):
        """Bytes by organisation, and by repository in it; the organisation's own line has none."""
        found = await self.rows(
            """
            SELECT o.slug, COALESCE(r.path, ''), SUM(d.bytes)
              FROM byte_deltas AS d
              JOIN organisations AS o ON o.id = d.organisation_id
              LEFT JOIN repositories AS r ON r.id = d.repository_id
             GROUP BY o.slug, r.path
            """
        )
        return {(str(slug), str(path)): int(count) for slug, path, count in found}


def address(name, label=None):
    return Address(label, RepositoryName.parse(name))


@pytest.fixture
def place(store_kind, request, tmp_path):
    """A store, and what really lies in it."""
    if store_kind == "objects":
        request.getfixturevalue("quick_retries")
        bucket = request.getfixturevalue("bucket")
        return ObjectStore(place_of(bucket)), KeptObjects(bucket, f"{PREFIX}/")
    store = DiskStore(tmp_path / "blobs", tmp_path / "uploads", low_water_bytes=0)
    store.prepare()
    return store, KeptFiles(tmp_path)


@pytest.fixture
async def world(database_url, place, tmp_path):
    clock = FakeClock()
    real = connect(database_url, pool_size=2)
    await real.open()
    database = Twice(real)
    store, kept = place
    addresses = Addresses(database)
    access = Access(clock, addresses)
    tenancy = Tenancy(database, clock)
    await tenancy.first_start(new_token(Kind.USER))
    for slug in ("acme", "globex"):
        await tenancy.add_organisation(slug)
    access.set_default_organisation(await tenancy.default_organisation())
    limits = UploadLimits(expire=7 * DAY, grace=DAY, open_per_token=100)
    common = (database, clock, access, addresses)
    yield World(
        url=database_url,
        data=tmp_path,
        clock=clock,
        database=database,
        store=store,
        kept=kept,
        key=BearerKey(KeyRing(SecretKey.of(b"k" * 32))),
        addresses=addresses,
        access=access,
        tenancy=tenancy,
        uploads=Uploads(database, store, clock, access, addresses, limits),
        push=Push(database, store, clock, access, addresses, grace=DAY, index_depth=4),
        mount=Mount(*common, grace=DAY),
        delete=Delete(database, clock, access, restore=DAY),
    )
    await real.close()
    store.close()
