"""Reads go on when nothing can be written."""

import json
import secrets
import tracemalloc

import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.db import manifests
from entrepot.model.clock import DAY, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import StorageFailed, StorageFull, Unavailable
from entrepot.model.manifests import ManifestLimits, read_manifest
from entrepot.model.names import RepositoryName
from entrepot.services.access import NOBODY
from entrepot.services.addresses import Address
from tests.support.server import OCI_MANIFEST

ADDRESS = Address(None, RepositoryName.parse("test/app"))


class ReadOnly:
    """A database that takes no change any more."""

    def __init__(self, database, error):
        self._database = database
        self._error = error

    def read(self, **options):
        return self._database.read(**options)

    async def write(self, _work, **_options):
        raise self._error


class Later:
    """The machine's clock, some days on."""

    def __init__(self, microseconds):
        self._microseconds = microseconds

    def now(self):
        return SystemClock().now() + self._microseconds


@pytest.fixture
async def app(tmp_path):
    settings = load(
        None,
        {
            "ENTREPOT_DATA": str(tmp_path / "data"),
            "ENTREPOT_ANONYMOUS": "push",
            "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
        },
    )
    await prepare(settings)
    app = Application(settings, SystemClock())
    await app.database.open()
    app.access.set_default_organisation(await app.tenancy.default_organisation())
    yield app
    await app.database.close()
    app.store.close()


async def push(app):
    """An image; the digests of its configuration and its manifest."""
    config = secrets.token_bytes(100)
    digest = Digest.of(config)

    async def pieces():
        yield config

    session = await app.uploads.open(NOBODY, ADDRESS, algorithm="sha256")
    await app.uploads.commit(NOBODY, ADDRESS, session, digest, pieces(), None)
    descriptor = {"mediaType": "application/x", "digest": str(digest), "size": 100}
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor, "layers": []}
    ).encode()
    await app._oci._registry.push.manifest(
        NOBODY,
        ADDRESS,
        digest=Digest.of(body),
        tag_names=[],
        facts=read_manifest(body, OCI_MANIFEST, ManifestLimits()),
        body=body,
        opened_before=2**62,
    )
    return digest, Digest.of(body)


@pytest.mark.parametrize("error", [StorageFull("full"), StorageFailed("bad"), Unavailable("busy")])
async def test_what_a_pusher_asks_for_is_found_while_its_hold_cannot_be_renewed(app, error):
    config, manifest = await push(app)
    registry = app._oci._registry
    pull = registry.pull
    pull._clock = Later(DAY * 2)
    pull._database = ReadOnly(app.database, error)
    repository = await registry.addresses.where(ADDRESS)

    found = await pull.manifest(repository, manifest, renew=True)
    file = await pull.blob(repository, config, renew=True)

    assert (found.digest, file.size) == (str(manifest), 100)


async def test_referrers_with_long_annotations_are_not_all_taken_into_memory(app):
    registry = app._oci._registry
    await push(app)
    repository = await registry.addresses.where(ADDRESS)
    subject = Digest.of(b"subject")
    digests = sorted(str(Digest.of(b"%d" % number)) for number in range(40))

    async def add(tx):
        for digest in digests:
            await manifests.put(
                tx,
                repository.id,
                digest=digest,
                media_type=OCI_MANIFEST,
                artifact_type=None,
                subject=str(subject),
                annotations=json.dumps({"a": "x" * 1_000_000}),
                depth=0,
                body=b"{}",
                now=1,
                protected_until=1,
            )

    await app.database.write(add)
    seen, after, has_more = [], "", True
    tracemalloc.start()
    try:
        while has_more:
            page = await registry.pull.referrers(
                repository, subject, artifact_type=None, after=after, limit=1_000
            )
            seen += [referrer.digest for referrer in page.found]
            after, has_more = seen[-1], page.has_more
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert seen == digests
    assert most < 35_000_000
