"""Two changes at once on PostgreSQL, one held before each of its statements in turn.

READ COMMITTED lets statements of two transactions mix; locks taken in the right order are all that
keeps the promises. SQLite has one writer, so there the same pairs run side by side without a pause.
"""

import asyncio
import json
import secrets
from contextlib import asynccontextmanager

import psycopg
import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.model.clock import SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import Conflict, EntrepotError, Taken
from entrepot.model.manifests import ManifestLimits, read_manifest
from entrepot.model.names import RepositoryName, Tag
from entrepot.oci.errors import wire_of
from entrepot.services.access import NOBODY, OPERATOR
from entrepot.services.addresses import Address
from tests.support.invariants import check_invariants
from tests.support.server import OCI_INDEX, OCI_MANIFEST
from tests.support.swapped import swap

pytestmark = pytest.mark.slow  # each pair, held before every statement

_FAR = 2**62
_SECONDS = 20.0


class Held:
    """A database whose next write stops before its Nth statement until it may go on."""

    def __init__(self, database):
        self._database = database
        self._left = 0
        self.reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    def hold_before(self, nth):
        self._left = nth
        self.reached.clear()
        self.may_go_on.clear()

    def read(self, **options):
        return self._database.read(**options)

    async def write(self, work, **options):
        return await self._database.write(lambda tx: work(_HeldTransaction(tx, self)), **options)

    async def pass_a_statement(self):
        if self._left:
            self._left -= 1
            if self._left == 0:
                self.reached.set()
                await self.may_go_on.wait()


class _HeldTransaction:
    def __init__(self, tx, held):
        self._tx = tx
        self._held = held

    async def fetch_one(self, sql, **values):
        await self._held.pass_a_statement()
        return await self._tx.fetch_one(sql, **values)

    async def fetch_all(self, sql, **values):
        await self._held.pass_a_statement()
        return await self._tx.fetch_all(sql, **values)

    async def execute(self, sql, **values):
        await self._held.pass_a_statement()
        return await self._tx.execute(sql, **values)


class Node:
    """One process's registry, as its own connections see it; `held` is for its writes."""

    def __init__(self, app):
        self.app = app
        self.held = Held(app.database)
        registry = app._oci._registry
        management = app._api._management
        self.restore, self.deletions = management.restore, management.deletions
        self.repositories = management.repositories
        for service in (
            self.restore,
            self.deletions,
            self.repositories,
            registry.push,
            registry.delete,
            registry.uploads,
            registry.mount,
            app.tenancy._organisations,
        ):
            swap(service, database=self.held)
        self.registry = registry

    async def upload(self, name, content):
        address, digest = address_of(name), Digest.of(content, "sha256")
        session = await self.registry.uploads.open(NOBODY, address, algorithm="sha256")

        async def pieces():
            yield content

        await self.registry.uploads.commit(NOBODY, address, session, digest, pieces(), None)
        return str(digest)

    async def push(self, name, body, *tag_names):
        content = json.dumps(body).encode()
        facts = read_manifest(content, body["mediaType"], ManifestLimits())
        await self.registry.push.manifest(
            NOBODY,
            address_of(name),
            digest=Digest.of(content, "sha256"),
            tag_names=[Tag.parse(tag) for tag in tag_names],
            facts=facts,
            body=content,
            opened_before=_FAR,
        )
        return str(Digest.of(content, "sha256"))

    async def push_image(self, name, *tag_names):
        return await self.push(name, await self.image(name), *tag_names)

    async def image(self, name):
        config = await self.upload(name, secrets.token_bytes(20))
        return image_of(config)

    async def delete_blob(self, name, digest):
        await self.registry.delete.blob(NOBODY, address_of(name), Digest.parse(digest))

    async def delete_manifest(self, name, digest):
        await self.registry.delete.manifest(NOBODY, address_of(name), Digest.parse(digest))

    async def delete_tag(self, name, tag):
        await self.registry.delete.tag(NOBODY, address_of(name), Tag.parse(tag))

    async def id_of(self, name):
        async with self.app.database.read() as tx:
            where = await self.app._addresses.find(tx, address_of(name))
        return where.id

    async def restore_tag(self, name, tag, **which):
        repository_id = await self.id_of(name)
        await self.restore.tag(OPERATOR, repository_id, Tag.parse(tag), **which)

    async def restore_manifest(self, name, digest):
        await self.restore.manifest(OPERATOR, await self.id_of(name), Digest.parse(digest))

    async def mount(self, name, source, digest):
        return await self.registry.mount.blob(
            NOBODY, address_of(name), address_of(source), Digest.parse(digest)
        )


def address_of(name):
    return Address(None, RepositoryName.parse(name))


def image_of(config):
    descriptor = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": config,
        "size": 20,
    }
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor, "layers": []}


def index_of(*digests):
    children = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 1} for digest in digests]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}


# Each pair: prepares, and answers two changes, each a function of the node that makes it.


async def a_blob_is_deleted_while_a_manifest_that_needs_it_is_pushed(node):
    name = new_name()
    config = await node.upload(name, secrets.token_bytes(20))
    body = image_of(config)
    return lambda n: n.push(name, body, "v1"), lambda n: n.delete_blob(name, config)


async def a_child_is_deleted_while_its_index_is_pushed(node):
    name = new_name()
    child = await node.push_image(name, "child")
    return lambda n: n.push(name, index_of(child), "v1"), lambda n: n.delete_manifest(name, child)


async def one_tag_is_pushed_twice(node):
    name = new_name()
    first, second = await node.image(name), await node.image(name)
    await node.push_image(name, "v1")
    return lambda n: n.push(name, first, "v1"), lambda n: n.push(name, second, "v1")


async def a_new_tag_is_pushed_twice(node):
    name = new_name()
    first, second = await node.image(name), await node.image(name)
    return lambda n: n.push(name, first, "v1"), lambda n: n.push(name, second, "v1")


async def one_digest_is_uploaded_twice(node):
    name, content = new_name(), secrets.token_bytes(20)
    await node.upload(name, b"")
    other = new_name()
    await node.upload(other, b"")
    return lambda n: n.upload(name, content), lambda n: n.upload(other, content)


async def one_digest_is_uploaded_twice_to_one_repository(node):
    name, content = new_name(), secrets.token_bytes(20)
    await node.upload(name, b"")
    return lambda n: n.upload(name, content), lambda n: n.upload(name, content)


async def a_slug_is_taken_while_a_repository_begins_with_it(node):
    slug = f"s-{secrets.token_hex(4)}"
    name = f"{slug}/x"

    async def open_upload(n):
        return await n.registry.uploads.open(NOBODY, address_of(name), algorithm="sha256")

    return open_upload, lambda n: n.app.tenancy.add_organisation(slug)


async def a_tag_is_pushed_while_it_is_deleted(node):
    name = new_name()
    await node.push_image(name, "v1")
    body = await node.image(name)
    return lambda n: n.push(name, body, "v1"), lambda n: n.delete_tag(name, "v1")


async def a_tag_is_pushed_while_it_is_moved_and_deleted(node):
    name = new_name()
    await node.push_image(name, "v1")
    one, other = await node.image(name), await node.image(name)

    async def move_and_delete(n):
        await n.push(name, other, "v1")
        await n.delete_tag(name, "v1")

    return lambda n: n.push(name, one, "v1"), move_and_delete


async def a_manifest_is_deleted_while_it_is_pushed_again(node):
    name = new_name()
    body = await node.image(name)
    digest = await node.push(name, body, "v1")
    return lambda n: n.push(name, body, "v2"), lambda n: n.delete_manifest(name, digest)


async def a_blob_is_deleted_while_it_is_mounted_elsewhere(node):
    source, target = new_name(), new_name()
    digest = await node.upload(source, secrets.token_bytes(20))
    return lambda n: n.mount(target, source, digest), lambda n: n.delete_blob(source, digest)


async def an_index_and_its_child_are_deleted(node):
    name = new_name()
    child = await node.push_image(name, "child")
    index = await node.push(name, index_of(child), "index")
    return lambda n: n.delete_manifest(name, child), lambda n: n.delete_manifest(name, index)


async def two_manifests_share_their_blobs(node):
    name = new_name()
    parts = [await node.upload(name, secrets.token_bytes(20)) for _ in range(3)]
    bodies = []
    for order in (parts, parts[::-1]):
        body = image_of(order[0])
        body["layers"] = [dict(body["config"], digest=part) for part in order]
        bodies.append(body)
    return lambda n: n.push(name, bodies[0], "a"), lambda n: n.push(name, bodies[1], "a", "b")


async def a_deleted_tag_is_restored_while_it_is_pushed(node):
    name = new_name()
    await node.push_image(name, "v1")
    await node.delete_tag(name, "v1")
    body = await node.image(name)
    return lambda n: n.push(name, body, "v1"), lambda n: n.restore_tag(name, "v1", version=1)


async def a_tag_is_set_back_while_it_is_deleted(node):
    name = new_name()
    await node.push_image(name, "v1")
    await node.push_image(name, "v1")
    return lambda n: n.restore_tag(name, "v1", version=1), lambda n: n.delete_tag(name, "v1")


async def a_manifest_is_restored_while_its_tag_is_pushed(node):
    name = new_name()
    digest = await node.push_image(name, "v1", "v2")
    await node.delete_manifest(name, digest)
    body = await node.image(name)
    return lambda n: n.push(name, body, "v1"), lambda n: n.restore_manifest(name, digest)


async def a_manifest_is_restored_while_its_blob_is_deleted(node):
    name = new_name()
    config = await node.upload(name, secrets.token_bytes(20))
    digest = await node.push(name, image_of(config), "v1")
    await node.delete_manifest(name, digest)
    return lambda n: n.restore_manifest(name, digest), lambda n: n.delete_blob(name, config)


async def an_index_is_restored_while_its_child_is_deleted(node):
    name = new_name()
    child = await node.push_image(name, "child")
    index = await node.push(name, index_of(child), "v1")
    await node.delete_manifest(name, index)
    return lambda n: n.restore_manifest(name, index), lambda n: n.delete_manifest(name, child)


async def a_manifest_is_restored_twice(node):
    name = new_name()
    digest = await node.push_image(name, "v1", "v2")
    await node.delete_manifest(name, digest)
    return lambda n: n.restore_manifest(name, digest), lambda n: n.restore_manifest(name, digest)


async def a_repository_is_restored_while_its_path_is_pushed(node):
    name = new_name()
    body = await node.image(name)
    await node.push(name, body, "v1")
    ours = await node.id_of(name)
    await node.repositories.delete(OPERATOR, ours, version=None)

    async def upload(n):
        return await n.registry.uploads.open(NOBODY, address_of(name), algorithm="sha256")

    return lambda n: n.deletions.repository(OPERATOR, ours), upload


async def a_repository_is_restored_twice(node):
    name = new_name()
    await node.push_image(name, "v1", "v2")
    ours = await node.id_of(name)
    await node.repositories.delete(OPERATOR, ours, version=None)
    return (
        lambda n: n.deletions.repository(OPERATOR, ours),
        lambda n: n.deletions.repository(OPERATOR, ours),
    )


PAIRS = {
    pair.__name__.replace("_", " "): pair
    for pair in (
        a_blob_is_deleted_while_a_manifest_that_needs_it_is_pushed,
        a_child_is_deleted_while_its_index_is_pushed,
        one_tag_is_pushed_twice,
        a_new_tag_is_pushed_twice,
        one_digest_is_uploaded_twice,
        one_digest_is_uploaded_twice_to_one_repository,
        a_slug_is_taken_while_a_repository_begins_with_it,
        a_tag_is_pushed_while_it_is_deleted,
        a_tag_is_pushed_while_it_is_moved_and_deleted,
        a_manifest_is_deleted_while_it_is_pushed_again,
        a_blob_is_deleted_while_it_is_mounted_elsewhere,
        an_index_and_its_child_are_deleted,
        two_manifests_share_their_blobs,
        a_deleted_tag_is_restored_while_it_is_pushed,
        a_tag_is_set_back_while_it_is_deleted,
        a_manifest_is_restored_while_its_tag_is_pushed,
        a_manifest_is_restored_while_its_blob_is_deleted,
        an_index_is_restored_while_its_child_is_deleted,
        a_manifest_is_restored_twice,
        a_repository_is_restored_while_its_path_is_pushed,
        a_repository_is_restored_twice,
    )
}


def new_name():
    return f"test/{secrets.token_hex(6)}"


@asynccontextmanager
async def two_nodes(data, database_url, more=None):
    environment = {
        "ENTREPOT_DATA": str(data),
        "ENTREPOT_DATABASE__URL": database_url,
        "ENTREPOT_ANONYMOUS": "push",
        "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
        **(more or {}),
    }
    settings = load(None, environment)
    await prepare(settings)
    nodes = [Node(Application(settings, SystemClock())) for _ in range(2)]
    try:
        for node in nodes:
            await node.app.database.open()
            default = await node.app.tenancy.default_organisation()
            node.app.access.set_default_organisation(default)
        yield nodes
    finally:
        for node in nodes:
            await node.app.database.close()
            node.app.store.close()


def refusal_of(outcome):
    """The error of the caller, if it got one; whatever else went wrong is raised."""
    if not isinstance(outcome, BaseException):
        return None
    is_a_choice = isinstance(outcome, Taken)
    is_a_choice |= isinstance(outcome, Conflict) and "something else just now" in outcome.message
    if isinstance(outcome, EntrepotError) and (is_a_choice or wire_of(outcome)[0] < 500):
        return outcome
    raise outcome


@asynccontextmanager
async def looking(database_url):
    """Gives what waits until a change has ended or waits for a lock of another."""
    connection = await psycopg.AsyncConnection.connect(database_url, autocommit=True)

    async def is_waiting_or_done(task):
        async with asyncio.timeout(_SECONDS):
            while not task.done():
                cursor = await connection.execute(
                    "SELECT 1 FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if await cursor.fetchone():
                    return
                await asyncio.sleep(0.002)  # the server has no other way to tell

    async with connection:
        yield is_waiting_or_done


@pytest.mark.parametrize("is_swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
async def test_two_changes_keep_every_promise_wherever_one_is_held(
    postgres_url, data, pair, is_swapped
):
    async with (
        two_nodes(data, postgres_url) as (first, second),
        looking(postgres_url) as is_waiting_or_done,
    ):
        nth, was_reached = 0, True
        while was_reached:
            nth += 1
            changes = await pair(first)
            held, other = changes[::-1] if is_swapped else changes
            first.held.hold_before(nth)
            slow = asyncio.create_task(held(first))
            reached = asyncio.create_task(first.held.reached.wait())
            await asyncio.wait([slow, reached], return_when=asyncio.FIRST_COMPLETED)
            was_reached = reached.done()
            reached.cancel()
            quick = asyncio.create_task(other(second))
            await is_waiting_or_done(quick)
            first.held.may_go_on.set()
            first.held._left = 0

            async with asyncio.timeout(_SECONDS):
                outcomes = await asyncio.gather(slow, quick, return_exceptions=True)

            refusals = [refusal_of(outcome) for outcome in outcomes]
            assert not all(refusals), refusals
        # Each round has names of its own: what one breaks stays so until the end.
        check_invariants(postgres_url, data)
        await require_no_hidden_repository(first.app)
    assert nth > 3


async def require_no_hidden_repository(app):
    """No repository of the default organisation lies behind another organisation's slug."""
    async with app.database.read() as tx:
        rows = await tx.fetch_all(
            """
            SELECT r.path
              FROM repositories AS r
              JOIN organisations AS o ON r.path = o.slug OR r.path LIKE o.slug || '/%'
             WHERE r.deleted_at IS NULL
            """
        )
    assert not rows


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
async def test_two_changes_at_once_keep_every_promise(database_url, data, pair):
    async with two_nodes(data, database_url) as (first, second):
        for _ in range(3):
            one, other = await pair(first)

            outcomes = await asyncio.gather(one(first), other(second), return_exceptions=True)

            refusals = [refusal_of(outcome) for outcome in outcomes]
            assert not all(refusals), refusals
        check_invariants(database_url, data)
