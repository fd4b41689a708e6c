"""Addresses, tags, bytes, mounts and reviews, and writes that run twice."""

import json

import pytest

from entrepot.db import organisations, tags
from entrepot.model.access import Place
from entrepot.model.clock import DAY
from entrepot.model.digests import Digest
from entrepot.model.errors import NameInvalid, NameUnknown, Taken, TooManyRequests
from entrepot.model.manifests import ManifestLimits, read_manifest
from entrepot.model.names import Tag
from tests.services.conftest import address, on_every_store
from tests.support.invariants import check_invariants

CONTENT = b"content of a layer"


def document(*layers, config=CONTENT, note=""):
    part = [{"digest": str(Digest.of(layer)), "size": len(layer)} for layer in (config, *layers)]
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part[0],
            "layers": part[1:],
            "annotations": {"note": note},
        }
    ).encode()


async def push(world, actor, where, body, *names):
    return await world.push.manifest(
        actor,
        where,
        digest=None,
        tag_names=[Tag.parse(name) for name in names],
        facts=read_manifest(body, None, ManifestLimits()),
        body=body,
        opened_before=2**62,
    )


async def organisation_id(world, slug):
    async with world.database.read() as tx:
        found = await organisations.find(tx, slug)
    assert found is not None
    return found.id


async def place(world, *where):
    async with world.database.read() as tx:
        return await world.addresses.place(tx, address(*where))


async def test_an_address_leads_to_the_first_form_that_fits(world):
    main, acme = await organisation_id(world, "main"), await organisation_id(world, "acme")
    project = await world.tenancy.add_project("acme", "builds")

    assert await place(world, "a/b") == Place(main, "a/b")
    assert await place(world, "main/a") == Place(main, "a")
    assert await place(world, "acme/a") == Place(acme, "a")
    assert await place(world, "a/b", "acme") == Place(acme, "a/b")
    assert await place(world, "globex/a", "acme") == Place(acme, "globex/a")
    found = await place(world, project)
    assert (found.organisation_id, found.path) == (acme, project)
    assert found.project_id is not None


@pytest.mark.parametrize("name", [("acme",), ("a", "nobody"), ("a", "")])
async def test_an_address_that_leads_nowhere_is_unknown(world, name):
    with pytest.raises(NameUnknown):
        await place(world, *name)


async def test_nothing_is_below_a_project(world):
    project = await world.tenancy.add_project("acme", "builds")

    with pytest.raises(NameUnknown):
        await place(world, f"{project}/a")


async def test_an_id_that_is_no_projects_is_a_name_like_any_other(world):
    main = await organisation_id(world, "main")

    assert await place(world, "bcdfghjklm/a") == Place(main, "bcdfghjklm/a")


async def test_an_organisation_is_found_by_its_id_too(world):
    ((public_id,),) = await world.rows("SELECT public_id FROM organisations WHERE slug = 'acme'")

    assert await place(world, f"{public_id}/a") == await place(world, "acme/a")


async def test_a_slug_never_hides_a_repository(world):
    admin = await world.token("user", "main")
    await world.upload(admin, address("initech/app"), CONTENT)

    with pytest.raises(Taken):
        await world.tenancy.add_organisation("initech")

    await world.tenancy.add_organisation("initec")
    await world.tenancy.add_organisation("initech-2")


@pytest.mark.parametrize("slug", ["v2", "bcdfghjklm", "Acme", "a_b", "-a", ""])
async def test_a_slug_that_means_something_else_is_refused(world, slug):
    with pytest.raises(NameInvalid):
        await world.tenancy.add_organisation(slug)


async def test_versions_of_a_tag_never_repeat(world):
    admin, where = await world.token("user", "main"), address("app")
    await world.upload(admin, where, CONTENT)
    first, second = document(note="1"), document(note="2")

    await push(world, admin, where, first, "v1")
    await push(world, admin, where, first, "v1")
    await push(world, admin, where, second, "v1")
    await world.delete.tag(admin, where, Tag.parse("v1"))
    await push(world, admin, where, second, "v1")
    await world.delete.manifest(admin, where, Digest.of(second))
    await push(world, admin, where, first, "v1")

    lines = await world.rows(
        "SELECT version, digest, ended_at IS NULL FROM tag_history ORDER BY version"
    )
    digests = [str(Digest.of(body)) for body in (first, second, second, first)]
    assert [(version, digest) for version, digest, _ in lines] == list(enumerate(digests, start=1))
    assert [bool(is_open) for *_, is_open in lines] == [False, False, False, True]
    async with world.database.read() as tx:
        assert await tags.page(tx, await repository_id(world), after="", limit=9) == ["v1"]


async def repository_id(world):
    ((found,),) = await world.rows("SELECT id FROM repositories")
    return found


async def test_an_organisation_pays_once_for_a_digest_and_each_organisation_for_its_own(world):
    admin, acme = await world.token("user", "main"), await world.token("org", "acme")
    size, body = len(CONTENT), document()

    for actor, name in ((admin, "a"), (admin, "b"), (acme, "acme/a")):
        await world.upload(actor, address(name), CONTENT)
        await world.upload(actor, address(name), CONTENT)
        await push(world, actor, address(name), body, "v1")
        await push(world, actor, address(name), body, "v2")

    each = size + len(body)
    assert await world.bytes_of() == {
        ("main", ""): each,
        ("main", "a"): each,
        ("main", "b"): each,
        ("acme", ""): each,
        ("acme", "a"): each,
    }
    holders = await world.rows("SELECT holders FROM organisation_content ORDER BY holders")
    assert holders == [(1,), (1,), (2,), (2,)]


async def test_what_is_deleted_restorably_still_counts_and_counts_once_when_it_returns(world):
    admin, where = await world.token("user", "main"), address("app")
    digest = await world.upload(admin, where, CONTENT)
    before = await world.bytes_of()

    await world.delete.blob(admin, where, digest)
    assert await world.bytes_of() == before

    await world.upload(admin, where, CONTENT)
    assert await world.bytes_of() == before


@on_every_store
async def test_bytes_that_two_repositories_send_are_kept_once(world):
    admin, acme = await world.token("user", "main"), await world.token("org", "acme")

    await world.upload(admin, address("a"), CONTENT)
    await world.upload(acme, address("acme/a"), CONTENT)

    ((key,),) = await world.rows("SELECT storage_key FROM blobs")
    ((buried, due),) = await world.rows("SELECT storage_key, due_at FROM tombstones")
    assert key != buried
    assert due > world.clock.time


async def test_a_mount_links_once_and_counts_for_its_repository_alone(world):
    admin = await world.token("user", "main")
    digest = await world.upload(admin, address("a"), CONTENT)

    for source in (address("a"), None, address("a"), address("nobody")):
        await world.mount.blob(admin, address("b"), source, digest)

    size = len(CONTENT)
    assert await world.bytes_of() == {("main", ""): size, ("main", "a"): size, ("main", "b"): size}
    assert len(await world.rows("SELECT 1 FROM blobs")) == 1


async def test_nothing_is_mounted_from_another_organisation_without_a_right(world):
    admin, acme = await world.token("user", "main"), await world.token("org", "acme")
    digest = await world.upload(admin, address("a"), CONTENT)

    assert not await world.mount.blob(acme, address("acme/a"), address("a"), digest)
    assert not await world.mount.blob(acme, address("acme/a"), None, digest)
    assert await world.rows(
        "SELECT 1 FROM repositories WHERE path = 'a' AND organisation_id <> 0"
    ) == [(1,)]


async def test_each_review_of_the_same_thing_has_a_new_version_and_a_later_time(world):
    admin, where = await world.token("user", "main"), address("app")
    digest = await world.upload(admin, where, CONTENT)
    ((first, due),) = await world.rows("SELECT version, due_at FROM review_queue")

    world.clock.advance(DAY)
    await world.delete.blob(admin, where, digest)

    ((second, later),) = await world.rows("SELECT version, due_at FROM review_queue")
    assert second != first
    assert later >= due + DAY


async def test_a_tag_that_moves_leaves_its_old_manifest_to_retention(world):
    admin, where = await world.token("user", "main"), address("app")
    await world.upload(admin, where, CONTENT)
    await push(world, admin, where, document(note="1"), "v1")

    await push(world, admin, where, document(note="2"), "v1")

    assert await world.rows("SELECT digest FROM review_queue WHERE kind = 'manifest'") == []
    assert await world.rows("SELECT digest FROM manifests WHERE orphaned_at IS NOT NULL") == []


@on_every_store
async def test_a_push_whose_writes_run_twice_counts_nothing_twice(world):
    admin, where = await world.token("user", "main"), address("app")
    world.database.is_twice = True

    digest = await world.upload(admin, where, CONTENT)
    await push(world, admin, where, document(), "v1")
    await world.mount.blob(admin, address("other"), where, digest)

    each = len(CONTENT) + len(document())
    assert await world.bytes_of() == {
        ("main", ""): each,
        ("main", "app"): each,
        ("main", "other"): len(CONTENT),
    }
    assert await world.rows("SELECT version FROM tag_history") == [(1,)]
    assert await world.rows("SELECT 1 FROM tombstones") == []
    check_invariants(world.url, world.kept, now=world.clock.time / 1_000_000)


async def test_one_credential_has_so_many_uploads_open_and_no_more(world):
    admin, other = await world.token("user", "main"), await world.token("user", "main")
    for _ in range(100):
        await world.uploads.open(admin, address("app"), algorithm="sha256")

    with pytest.raises(TooManyRequests):
        await world.uploads.open(admin, address("app"), algorithm="sha256")

    await world.uploads.open(other, address("app"), algorithm="sha256")
    world.clock.advance(8 * DAY)
    await world.uploads.open(admin, address("app"), algorithm="sha256")
    assert await world.uploads.sweep() == 101


async def test_a_projects_repository_is_its_own_by_whatever_address(world):
    project = await world.tenancy.add_project("acme", "builds")
    acme = await world.token("org", "acme")
    builder = await world.token("project", "acme", project=project)

    await world.upload(acme, address(f"acme/{project}"), CONTENT)
    await world.upload(builder, address(project), CONTENT)

    found = await world.addresses.where(address(project))
    assert "push" in world.access.allowed(builder.credential, found)
