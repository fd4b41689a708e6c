"""What collection did and what waits, as server administrators see it."""

from tests.support.server import digest_of


def test_a_deleted_organisation_waits_until_nobody_can_restore_it(people, slug):
    before = waiting(people.admin, "organisation")

    assert people.admin.delete(f"/organisations/{slug}").status_code == 204

    assert waiting(people.admin, "organisation") == before + 1


def waiting(caller, kind):
    state = caller.get("/collection").json()
    return sum(line["count"] for line in state["waiting"] if line["kind"] == kind)


def test_a_blob_that_nothing_needs_is_counted_and_waits_for_its_time(people, protocol, slug):
    boss = people.member(slug, "owner")
    before = people.admin.get("/collection").json()
    content = slug.encode()
    found = protocol(boss).request(
        "POST",
        f"/v2/{slug}/app/blobs/uploads/",
        params={"digest": digest_of(content)},
        content=content,
    )
    assert found.status_code == 201

    state = people.admin.get("/collection").json()

    assert state["stopped"] is None
    assert state["unused_bytes"] - before["unused_bytes"] == len(content)
    (line,) = [line for line in state["waiting"] if (line["kind"], line["reason"]) == ("link", "")]
    assert line["count"] > line["due"]
    assert line["next_at"] is not None
    assert state["objects"].keys() >= {"count", "bytes", "next_at", "refused", "error"}


def test_only_server_administrators_see_it(people, slug):
    assert people.member(slug, "owner").get("/collection").status_code == 403
    assert people.nobody.get("/collection").status_code == 401
