"""What keeps a manifest, as the database says it."""

import pytest

from entrepot.db import manifests, organisations, reachability, repositories
from entrepot.db.reachability import TOO_MANY, find_kept
from entrepot.model.access import Place
from tests.support.graphs import Graph, digest, fallback

R = 7
NOW = 1_000_000


class Repository:
    """One repository of manifests; each word is a transaction of its own."""

    def __init__(self, database):
        self.database = database

    async def make(self):
        async def work(tx):
            await organisations.add(tx, id=1, public_id="o", slug="o", now=1)
            await repositories.ensure(tx, Place(1, "app"), new_id=R, now=1)

        await self.database.write(work)

    async def put(self, name, **values):
        await self.database.write(lambda tx: Graph(tx, R).put(name, **values))

    async def tag(self, tag, name):
        await self.database.write(lambda tx: Graph(tx, R).tag(tag, name))

    async def kept(self, *names, **values):
        names_of = {digest(name): name for name in names}
        async with self.database.read() as tx:
            found = await find_kept(tx, R, names_of, now=NOW, **values)
        return {names_of[one]: reason for one, reason in found.items()}


@pytest.fixture
async def graph(database):
    graph = Repository(database)
    await graph.make()
    return graph


async def test_a_tag_keeps_what_it_points_at_and_nothing_keeps_the_rest(graph):
    await graph.put("a")
    await graph.put("b")
    await graph.tag("v1", "a")

    assert await graph.kept("a", "b", "missing") == {"a": "tag v1"}


async def test_an_index_keeps_its_children_whatever_lies_between(graph):
    await graph.put("child")
    await graph.put("inner", children=["child"])
    await graph.put("outer", children=["inner"])
    await graph.tag("v1", "outer")

    assert await graph.kept("child", "inner") == {
        "child": f"tag v1 of {digest('outer')}",
        "inner": f"tag v1 of {digest('outer')}",
    }


async def test_a_child_keeps_no_index(graph):
    await graph.put("child")
    await graph.put("index", children=["child"])
    await graph.tag("v1", "child")

    assert set(await graph.kept("child", "index")) == {"child"}


async def test_subject_and_referrers_are_one(graph):
    await graph.put("image")
    await graph.put("sbom", subject="image")
    await graph.put("signature", subject="sbom")
    await graph.put("other", subject="absent")

    assert await graph.kept("image", "sbom", "signature", "other") == {}

    await graph.tag("signed", "signature")

    assert set(await graph.kept("image", "sbom", "signature", "other")) == {
        "image",
        "sbom",
        "signature",
    }


async def test_what_is_protected_keeps_until_then(graph):
    await graph.put("image", protected_until=NOW + 1)
    await graph.put("sbom", subject="image")
    await graph.put("old", protected_until=NOW)

    assert await graph.kept("image", "sbom", "old") == {
        "image": "protected",
        "sbom": f"protected of {digest('image')}",
    }


@pytest.mark.parametrize("ending", ["", ".sig", ".att", ".sbom"])
async def test_a_tag_that_names_a_digest_hangs_below_it(graph, ending):
    await graph.put("image")
    await graph.put("signature")
    await graph.tag(fallback("image", ending), "signature")

    assert await graph.kept("image", "signature") == {}

    await graph.tag("v1", "image")

    assert set(await graph.kept("image", "signature")) == {"image", "signature"}


@pytest.mark.parametrize("ending", ["-x", "0"])
async def test_a_tag_that_only_looks_so_is_a_tag(graph, ending):
    await graph.put("image")
    await graph.put("signature")
    await graph.tag(fallback("image", ending), "signature")
    await graph.tag(fallback("absent"), "image")

    assert set(await graph.kept("image", "signature")) == {"image", "signature"}


async def test_what_hangs_below_a_deletion_that_can_be_undone_is_kept(graph):
    await graph.put("image")
    await graph.put("signature", subject="image")

    async def work(tx):
        await manifests.delete(tx, R, digest("image"), now=NOW - 10)

    await graph.database.write(work)

    assert await graph.kept("image", "signature", restorable_since=NOW - 10) == {}
    assert await graph.kept("image", "signature", restorable_since=NOW - 11) == {
        "image": "restorable",
        "signature": f"restorable of {digest('image')}",
    }


async def test_what_reaches_too_far_is_kept_and_the_others_are_judged(graph, monkeypatch):
    monkeypatch.setattr(reachability, "_BUDGET", 12)
    await graph.put("hub")
    referrers = [f"referrer-{number}" for number in range(20)]
    for name in referrers:
        await graph.put(name, subject="hub")
        await graph.put(f"signature of {name}", subject=name)
    await graph.put("alone")
    await graph.put("tagged")
    await graph.tag("v1", "tagged")

    kept = await graph.kept("alone", "tagged", "hub", *referrers[:5])
    crowd = await graph.kept("alone", *referrers)

    assert kept == {"tagged": "tag v1", **dict.fromkeys(["hub", *referrers[:5]], TOO_MANY)}
    assert crowd == dict.fromkeys(referrers, TOO_MANY)


async def test_any_number_of_referrers_without_a_root_is_seen_through(graph, monkeypatch):
    monkeypatch.setattr(reachability, "_BUDGET", 12)
    await graph.put("hub")
    referrers = [f"referrer-{number}" for number in range(20)]
    for name in referrers:
        await graph.put(name, subject="hub")

    dead = await graph.kept("hub", *referrers[:5])
    await graph.tag("v1", referrers[-1])
    kept = await graph.kept("hub", *referrers[:5])

    assert dead == {}
    assert kept == dict.fromkeys(["hub", *referrers[:5]], f"tag v1 of {digest(referrers[-1])}")


async def test_a_tag_that_is_taken_for_gone_keeps_nothing(graph):
    await graph.put("image")
    await graph.tag("v1", "image")
    await graph.tag("v2", "image")

    assert await graph.kept("image", without_tags=["v1", "v2"]) == {}
    assert await graph.kept("image", without_tags=["v1"]) == {"image": "tag v2"}
