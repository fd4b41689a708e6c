"""Two changes of one upload in an object store, one held before each of its statements in turn.

Nobody locks an upload there: the rows alone say whose bytes count. Whoever was acknowledged has
them, whoever was not hears it, and in the end nothing is left of either.
"""

import asyncio
import secrets
import shutil

import pytest
import pytest_asyncio

from entrepot.model.clock import DAY, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, UploadUnknown
from entrepot.model.ranges import ByteRange
from tests.faults.segments import PIECE, Shifted, cluster
from tests.faults.test_interleavings import looking, refusal_of
from tests.support.postgres import new_database
from tests.support.swapped import swap

pytestmark = [  # each pair, held before every statement
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

_SECONDS = 30.0


def some():
    return secrets.token_bytes(PIECE)


# Each pair: prepares, and answers two changes, each a function of the node that makes it, and what
# must be so whatever came of them.


async def two_patches_at_one_offset(nodes):
    upload = await nodes.open(nodes.first, some())
    return (*(_patch(upload) for _ in range(2)), _is_whole(upload))


async def a_patch_of_an_empty_session_and_another(nodes):
    upload = await nodes.open(nodes.first)
    return (*(_patch(upload) for _ in range(2)), _is_whole(upload))


async def a_patch_and_a_put_without_a_body(nodes):
    upload = await nodes.open(nodes.first, some())
    content = upload.content
    return _patch(upload), lambda n: upload.put(n, before=content), _is_whole(upload)


async def a_patch_and_a_put_with_a_body(nodes):
    upload = await nodes.open(nodes.first, some(), some())
    content = upload.content
    return _patch(upload), lambda n: upload.put(n, some(), before=content), _is_whole(upload)


async def two_puts_with_bodies(nodes):
    upload = await nodes.open(nodes.first, some())
    content = upload.content

    def put(node):
        return upload.put(node, some(), before=content)

    return put, put, _is_whole(upload)


async def two_puts_without_bodies(nodes):
    upload = await nodes.open(nodes.first, some(), some())
    return upload.put, upload.put, _is_whole(upload)


async def two_puts_of_nothing(nodes):
    upload = await nodes.open(nodes.first)
    return upload.put, upload.put, _is_whole(upload)


async def a_cancel_and_a_put(nodes):
    upload = await nodes.open(nodes.first, some())
    return upload.cancel, lambda n: upload.put(n, some()), _is_whole(upload, may_be_gone=True)


async def a_cancel_and_a_patch(nodes):
    upload = await nodes.open(nodes.first, some())
    return upload.cancel, _patch(upload), _is_whole(upload, may_be_gone=True)


async def an_expiry_and_a_patch(nodes):
    upload = await nodes.open(nodes.first, some())
    await _expire(nodes, upload)
    return _sweep, _patch(upload), _is_whole(upload, may_be_gone=True)


async def an_expiry_and_a_put(nodes):
    upload = await nodes.open(nodes.first, some())
    await _expire(nodes, upload)
    return _sweep, lambda n: upload.put(n, some()), _is_whole(upload, may_be_gone=True)


async def a_join_and_another(nodes):
    upload = await nodes.in_segments(nodes.first)
    return _join(nodes), _join(nodes), _is_pulled(upload)


async def a_join_and_a_push_of_the_same_blob(nodes):
    upload = await nodes.in_segments(nodes.first)
    again = await nodes.open(nodes.first)
    content = upload.content
    return _join(nodes), lambda n: again.put(n, content), _is_pulled(upload)


async def a_join_and_a_pull(nodes):
    upload = await nodes.in_segments(nodes.first)
    return _join(nodes), upload.pull, _is_pulled(upload)


async def a_join_and_a_collection_of_the_blob(nodes):
    upload = await nodes.in_segments(nodes.first)

    async def collect(node):
        await nodes.collect(node, ahead=2 * DAY, database=node.held)

    return _join(nodes), collect, _is_pulled(upload, may_be_gone=True)


async def a_join_and_a_collection_of_the_segments(nodes):
    upload = await nodes.in_segments(nodes.first)
    await nodes.joining(nodes.first).sweep()
    other = await nodes.in_segments(nodes.first)

    async def collect(node):
        await nodes.collect(node, database=node.held)

    async def look(node):
        await _is_pulled(upload)(node)
        await _is_pulled(other)(node)

    return _join(nodes), collect, look


async def a_join_and_a_sweep_of_its_session(nodes):
    upload = await nodes.in_segments(nodes.first)

    async def sweep(node):
        await _sweep(node, ahead=2 * DAY)

    return _join(nodes), sweep, _is_pulled(upload)


def _patch(upload):
    session, content = upload.session, upload.content

    async def patch(node):
        piece = some()
        chunk = ByteRange(len(content), len(content) + PIECE)
        after = await node.registry.uploads.append(session, _once(piece), chunk)
        upload.session, upload.content = after, content + piece

    return patch


async def _once(content):
    yield content


def _join(nodes):
    async def join(node):
        await nodes.joining(node, node.held).sweep()

    return join


async def _sweep(node, ahead=0):
    uploads = node.registry.uploads
    swap(uploads, clock=Shifted(ahead))
    try:
        await uploads.sweep()
    finally:
        swap(uploads, clock=SystemClock())


async def _expire(nodes, upload):
    async def work(tx):
        await tx.execute("UPDATE uploads SET expires_at = 1 WHERE id = :id", id=upload.session.id)

    await nodes.first.app.database.write(work)


def _is_whole(upload, *, may_be_gone=False):
    """What was acknowledged is there: as a blob, or as a session that becomes it."""

    async def look(node):
        try:
            upload.session = await upload.find(node)
            await upload.put(node)
            found = await upload.pull(node)
        except (UploadUnknown, BlobUnknown):
            if not may_be_gone:
                raise
            return
        assert found == upload.content

    return look


def _is_pulled(upload, *, may_be_gone=False):
    async def look(node):
        try:
            found = await upload.pull(node)
        except BlobUnknown:
            assert may_be_gone
            return
        assert Digest.of(found) == Digest.of(upload.content)

    return look


PAIRS = {
    pair.__name__.replace("_", " "): pair
    for pair in (
        two_patches_at_one_offset,
        a_patch_of_an_empty_session_and_another,
        a_patch_and_a_put_without_a_body,
        a_patch_and_a_put_with_a_body,
        two_puts_with_bodies,
        two_puts_without_bodies,
        two_puts_of_nothing,
        a_cancel_and_a_put,
        a_cancel_and_a_patch,
        an_expiry_and_a_patch,
        an_expiry_and_a_put,
        a_join_and_another,
        a_join_and_a_push_of_the_same_blob,
        a_join_and_a_pull,
        a_join_and_a_collection_of_the_blob,
        a_join_and_a_collection_of_the_segments,
        a_join_and_a_sweep_of_its_session,
    )
}


# Held the other way round, and at once, are in `make test` only these.
_EACH_WAY = (
    a_patch_and_a_put_with_a_body,
    a_cancel_and_a_put,
    an_expiry_and_a_put,
    a_join_and_a_push_of_the_same_blob,
)


@pytest.fixture(scope="module")
def shared_url(request, tmp_path_factory):
    """A database for all pairs."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("races")
        template = request.getfixturevalue("sqlite_template")
        yield f"sqlite:///{shutil.copy(template, folder / 'entrepot.db')}"
    else:
        server = request.getfixturevalue("postgres_server")
        template = request.getfixturevalue("postgres_template")
        with new_database(server, template=template) as url:
            yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(shared_url, tmp_path_factory, object_server):
    """One cluster for all pairs: each begins and ends with nothing in it."""
    data = tmp_path_factory.mktemp("data")
    async with cluster(data, shared_url, object_server.new_bucket()) as nodes:
        yield nodes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def is_waiting_or_done(nodes):
    async with looking(nodes.database_url) as look:
        yield look


@pytest.mark.parametrize("shared_url", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("pair", "is_swapped"),
    [
        pytest.param(
            pair,
            is_swapped,
            id=f"{name}{', swapped' if is_swapped else ''}",
            marks=pytest.mark.soak if is_swapped and pair not in _EACH_WAY else (),
        )
        for name, pair in PAIRS.items()
        for is_swapped in (False, True)
        if not (is_swapped and pair is a_join_and_a_pull)  # which writes nothing
    ],
)
async def test_two_changes_of_an_upload_wherever_one_is_held(
    nodes, is_waiting_or_done, pair, is_swapped
):
    nth, was_reached = 0, True
    while was_reached:
        nth += 1
        *changes, look = await pair(nodes)
        held, other = changes[::-1] if is_swapped else changes
        first = nodes.first
        first.held.hold_before(nth)
        slow = asyncio.create_task(held(first))
        reached = asyncio.create_task(first.held.reached.wait())
        await asyncio.wait([slow, reached], return_when=asyncio.FIRST_COMPLETED)
        was_reached = reached.done()
        reached.cancel()
        quick = asyncio.create_task(other(nodes.second))
        await is_waiting_or_done(quick)
        first.held.may_go_on.set()
        first.held._left = 0

        async with asyncio.timeout(_SECONDS):
            outcomes = await asyncio.gather(slow, quick, return_exceptions=True)

        refusals = [refusal_of(outcome) for outcome in outcomes]
        assert not all(refusals), refusals
        await look(nodes.second)
    nodes.check()
    await nodes.end()
    assert nth > 1


@pytest.mark.parametrize("shared_url", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, id=name, marks=() if pair in _EACH_WAY else pytest.mark.soak)
        for name, pair in PAIRS.items()
    ],
)
async def test_two_changes_of_an_upload_at_once(nodes, pair):
    for _ in range(3):
        one, other, look = await pair(nodes)

        outcomes = await asyncio.gather(
            one(nodes.first), other(nodes.second), return_exceptions=True
        )

        refusals = [refusal_of(outcome) for outcome in outcomes]
        assert not all(refusals), refusals
        await look(nodes.second)
    nodes.check()
    await nodes.end()
