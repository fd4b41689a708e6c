"""Namespace mirrors: repositories appear as they are pulled, and only those that the upstream has."""

import asyncio
import json

import pytest

from tests.mirror.turned import PATH, Cached
from tests.support.server import basic
from tests.support.upstreams import Gate, faults


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


@pytest.fixture
async def app(turned, upstream, image):
    """A name below a mirror, that nobody has pulled yet."""
    await turned.mirror(upstream, "hub")
    return Cached(turned, f"hub/{PATH}")


async def paths(turned):
    return [path for (path,) in await turned.rows("SELECT path FROM repositories ORDER BY path")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_repository_appears_with_its_first_pull(turned, app, upstream, image, method):
    answer = await app.manifest("v1", method)

    assert answer.headers["docker-content-digest"] == image.digest
    assert await paths(turned) == [f"hub/{PATH}"]
    assert (await app.manifest("v1")).content == image.body
    assert [entry.method for entry in upstream.log.of(kind="manifest")] == ["HEAD", "GET"]
    ((actor, details),) = await turned.rows(
        """
        SELECT actor_name, details
          FROM audit_events
         WHERE action = 'repository.created'
        """
    )
    assert (actor, json.loads(details)) == ("admin", {"by": "pull"})


async def test_it_appears_by_digest_too(turned, app, image):
    assert (await app.manifest(image.digest)).content == image.body
    assert await paths(turned) == [f"hub/{PATH}"]


async def test_it_appears_by_its_list_of_tags(turned, app, upstream):
    answer = await app.tags()

    assert answer.json()["tags"] == ["v1"]
    assert await paths(turned) == [f"hub/{PATH}"]
    await app.tags()
    assert upstream.log.count(kind="tags") == 2


@pytest.mark.parametrize("what", ["manifests/v1", "manifests/nothing", "tags/list"])
async def test_what_the_upstream_does_not_have_leaves_nothing_behind(turned, app, upstream, what):
    nobody = Cached(turned, "hub/nobody/nothing")

    for _ in range(3):
        assert (await nobody.get(what)).status_code == 404

    assert len(upstream.log.entries) == 1
    assert await paths(turned) == []
    assert await turned.rows("SELECT reference FROM lookups") == []
    turned.turn(31)
    await nobody.get(what)
    assert len(upstream.log.entries) == 2


async def test_a_failing_upstream_makes_no_repository(turned, app, upstream):
    upstream.script(faults.status(503))

    assert (await app.manifest("v1")).status_code == 502
    assert await paths(turned) == []


async def test_many_first_pulls_are_one(turned, app, upstream, image):
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest")
    asking = [asyncio.create_task(app.manifest("v1")) for _ in range(30)]
    await asyncio.to_thread(gate.reached.wait, 10)
    gate.open()

    answers = await asyncio.gather(*asking)

    assert {answer.headers["docker-content-digest"] for answer in answers} == {image.digest}
    assert [entry.method for entry in upstream.log.of(kind="manifest")] == ["HEAD", "GET"]
    assert await paths(turned) == [f"hub/{PATH}"]


async def test_first_pulls_through_several_processes_fetch_once(
    processes, turned, app, upstream, image
):
    there = app.on(await processes())

    answers = await asyncio.gather(*(side.manifest("v1") for side in (app, there) * 10))

    assert [answer.content for answer in answers] == [image.body] * 20
    assert upstream.log.count(kind="manifest", method="GET") == 1


@pytest.mark.parametrize("fault", [faults.html, faults.body(b"hello")])
async def test_what_is_no_manifest_makes_no_repository(turned, app, upstream, fault):
    upstream.manners.sends_digest = False
    upstream.script(fault)

    assert (await app.manifest("v1")).status_code == 502
    assert await paths(turned) == []


async def test_an_upstream_that_answers_no_head_is_asked_for_the_manifest(
    turned, app, upstream, image
):
    upstream.script(faults.status(405), method="HEAD")

    assert (await app.manifest("v1")).content == image.body
    assert (await app.manifest("nothing")).status_code == 404
    assert (await Cached(turned, "hub/nobody/nothing").manifest("v1")).status_code == 404
    assert await paths(turned) == [f"hub/{PATH}"]


async def test_two_tags_pulled_first_at_once_both_come(turned, app, upstream, image):
    other = upstream.put_image(PATH, "v2")

    first, second = await asyncio.gather(app.manifest("v1"), app.manifest("v2"))

    assert (first.content, second.content) == (image.body, other.body)
    assert upstream.log.count(kind="manifest", method="GET") == 2


async def test_what_a_mirror_does_not_let_through_is_not_asked_for(turned, upstream, image):
    await turned.mirror(upstream, "hub", deny=("library/*",))

    answer = await Cached(turned, f"hub/{PATH}").manifest("v1")

    assert answer.status_code == 404
    assert upstream.log.entries == []


async def test_who_may_not_pull_makes_nothing(turned, app, upstream):
    answer = await app.manifest("v1", headers=basic("entrepot_user_wrong"))

    assert answer.status_code == 401
    assert upstream.log.entries == []
    assert await paths(turned) == []


async def test_referrers_and_blobs_of_what_nobody_pulled_are_none(turned, app, upstream, image):
    referrers = await app.referrers(image.digest)
    blob = await app.get(f"blobs/{image.config}")

    assert referrers.json()["manifests"] == []
    assert blob.status_code == 404
    assert await paths(turned) == []


@pytest.mark.parametrize("most", [2, 3])
async def test_pulls_make_so_many_repositories_and_no_more(turned, app, upstream, most):
    turned.app.caching.first_pull._most = most
    names = [f"library/app{number}" for number in range(4)]
    for name in names:
        upstream.put_image(name, "v1")

    statuses = [(await Cached(turned, f"hub/{name}").manifest("v1")).status_code for name in names]
    refused = await Cached(turned, f"hub/{names[-1]}").manifest("v1")
    asked = len(upstream.log.entries)
    await Cached(turned, f"hub/{names[-1]}").manifest("v1")

    assert statuses == [200] * most + [403] * (4 - most)
    assert "ENTREPOT_MIRROR__REPOSITORIES" in refused.text
    assert len(upstream.log.entries) == asked
    assert (await Cached(turned, f"hub/{names[0]}").manifest("v1")).status_code == 200


async def test_nobody_in_particular_takes_half_of_them(turned, upstream):
    turned.app.caching.first_pull._most = 4
    await turned.change("UPDATE organisations SET allows_public = 1")
    await turned.mirror(upstream, "open", is_public=True)
    for number in range(4):
        upstream.put_image(f"library/app{number}", "v1")

    async def pull(number):
        return (await Cached(turned, f"open/library/app{number}").manifest("v1")).status_code

    credential = turned.client.headers.pop("authorization")
    assert [await pull(number) for number in range(3)] == [200, 200, 403]
    turned.client.headers["authorization"] = credential
    assert await pull(2) == 200
    del turned.client.headers["authorization"]
    assert await pull(2) == 200
