"""Eviction as clients see it: what left comes back when it is asked for."""

import pytest

from entrepot.model.clock import HOUR, SystemClock
from entrepot.services.eviction import Eviction, EvictionLimits
from tests.mirror.syncing import mirror_of
from tests.support.upstreams import faults

PATH = "library/app"
IDLE = 6 * HOUR


@pytest.fixture
def images(upstream):
    return [upstream.put_image(PATH, tag, layers=[20_000]) for tag in ("a", "b")]


@pytest.fixture
def mirror(stand, upstream, images):
    made = mirror_of(stand, upstream, accepts_push=True)
    for tag, image in zip("ab", images, strict=True):
        assert made.cache.manifest(tag).status == 200
        for digest in (image.config, *image.layers):
            assert made.cache.blob(digest).status == 200
    stand.wait_for_no_spools()
    return made


def evict(stand, most_bytes=None):
    """A round of the job, as another process would do it."""
    limits = EvictionLimits(IDLE, most_bytes)
    return stand.registry.ask(lambda db: Eviction(db, SystemClock(), limits).sweep())


def let_time_pass(stand, mirror):
    """As if nobody had asked for anything for seven hours."""
    facts = {"path": mirror.cache.name, "at": SystemClock().now() - 7 * HOUR}
    stand.registry.change(
        "UPDATE repositories SET accessed_at = :at, created_at = :at WHERE path = :path", **facts
    )
    stand.registry.change(
        """
        UPDATE blob_links
           SET protected_until = :at
         WHERE repository_id = (SELECT id FROM repositories WHERE path = :path)
        """,
        **facts,
    )


def test_blobs_that_left_come_back_with_a_proof_and_without_a_transfer(
    stand, upstream, mirror, images
):
    let_time_pass(stand, mirror)
    layer = images[0].layers[0]

    assert evict(stand) == 4

    assert not mirror.cache.has(layer)
    upstream.log.clear()
    assert mirror.cache.blob(layer).body == upstream.repository(PATH).blobs[layer]
    assert upstream.log.count(kind="blob", method="GET") == 0  # the object is here still
    assert upstream.log.count(kind="blob", method="HEAD") == 1
    assert mirror.cache.has(layer)


def test_what_left_is_not_there_without_the_upstream(stand, upstream, mirror, images):
    let_time_pass(stand, mirror)
    evict(stand)
    upstream.stop()

    assert mirror.cache.manifest("a").body == images[0].body
    assert mirror.cache.blob(images[0].layers[0]).status >= 500


def test_a_pushed_manifest_keeps_the_mirrored_blobs_that_it_names(stand, mirror, images):
    pushed = stand.pusher.push_manifest(mirror.cache.name, "ours", images[0].body)
    assert pushed == images[0].digest
    let_time_pass(stand, mirror)

    assert evict(stand) == 2

    assert mirror.cache.has(images[0].layers[0])
    assert not mirror.cache.has(images[1].layers[0])


def test_what_was_just_fetched_is_kept_whatever_the_budget(stand, mirror, images):
    assert evict(stand, most_bytes=1) == 0

    assert mirror.cache.has(images[0].layers[0])


def test_what_is_kept_warm_stays_while_syncs_want_it(stand, upstream, images):
    warm = mirror_of(stand, upstream, sync="all", warm_tags=["a"])
    warm.first()
    stand.wait_for_no_spools()
    let_time_pass(stand, warm)
    upstream.script(faults.status(500), kind="manifest", reference="a")
    assert warm.sync()["failed"] == 1  # the blobs are held all the same
    evict(stand)
    assert warm.cache.blob(images[0].layers[0], method="HEAD").status == 200

    def links():
        return stand.registry.rows(
            """
            SELECT l.digest
              FROM blob_links AS l
              JOIN repositories AS r ON r.id = l.repository_id
             WHERE r.path = :path
               AND l.deleted_at IS NULL
            """,
            path=warm.cache.name,
        )

    assert len(links()) == 2
    upstream.heal()
    warm.set(warm_tags=[])
    let_time_pass(stand, warm)
    evict(stand)
    assert links() == []
