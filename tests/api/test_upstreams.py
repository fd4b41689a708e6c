"""Upstream registries: tried before they are kept, seen by few, removed when nothing uses them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.server import free_port
from tests.support.upstreams import (
    BasicLogin,
    BearerLogin,
    Gate,
    Realm,
    RealmServer,
    ScriptedUpstream,
    bearer_upstream,
    faults,
    realm_of,
)

PASSWORD = "dckr_pat_S3cr3tS3cr3t"
ADA = {"kind": "basic", "username": "ada", "password": PASSWORD}

AWS = {"name": "ecr", "account": "123456789012", "region": "eu-central-1"}
# Bodies, and the field at fault.
IMPOSSIBLE = (
    ({"name": "mine"}, "url"),
    ({"name": "mine", "preset": "hub"}, "preset"),
    ({"name": "ecr"}, "account"),
    ({"name": "ecr", "account": "123456789012"}, "region"),
    ({"name": "ecr", "account": "123456789012", "region": "x/../y"}, "region"),
    ({"name": "acr"}, "account"),
    ({"name": "mine", "url": "ftp://a.example"}, "url"),
    ({"name": "mine", "url": "https://a.example/team"}, "url"),
    ({"name": "mine", "url": "https://u:p@a.example"}, "url"),
    ({"name": "mine", "url": "https://a.example", "member_patterns": ["a b"]}, "member_patterns"),
    ({"name": "mine", "url": "https://a.example", "member_patterns": ["a/"]}, "member_patterns"),
    ({"name": "Mine", "url": "https://a.example"}, "name"),
    ({"name": "ghcr", "credential": {"kind": "basic", "username": "a"}}, "credential.password"),
    ({"name": "ghcr", "credential": {"kind": "none", "token": "a"}}, "credential.token"),
    (
        {"name": "gar", "credential": {"kind": "google", "key_json": "{}"}},
        "credential.key_json",
    ),
    (
        {**AWS, "credential": {"kind": "ecr", "access_key_id": "AKIA"}},
        "credential.access_key_id",
    ),
    (
        {**AWS, "credential": {"kind": "ecr", "role_arn": "pull"}},
        "credential.role_arn",
    ),
)


@pytest.fixture
def slug(people):
    return people.organisation()


@pytest.fixture
def admin(people, slug):
    return people.member(slug, "admin")


@pytest.fixture
def upstream():
    """A registry that gives tokens to ada, and to nobody."""
    server = bearer_upstream(Realm(people={"ada": PASSWORD}, anonymous=False))
    with server.running():
        yield server


@pytest.fixture
def open_upstream():
    """A registry that anybody may read."""
    server = ScriptedUpstream()
    with server.running():
        yield server


@pytest.fixture
def kept(admin, slug, upstream):
    """An upstream with ada's credential."""
    return add(admin, slug, upstream)


def new(server, **fields):
    return {"name": "partner", "url": server.origin, "credential": ADA, **fields}


def add(caller, slug, server, **fields):
    return caller.made(f"/organisations/{slug}/upstreams", new(server, **fields))


def refusal(caller, slug, body, status=422):
    """The field and the sentence of a refusal, after which nothing is kept."""
    answer = caller.post(f"/organisations/{slug}/upstreams", body)
    assert answer.status_code == status, answer.text
    assert caller.items(f"/organisations/{slug}/upstreams") == []
    problem = answer.json()
    return (problem["errors"] or [{"field": None}])[0]["field"], problem["detail"]


def actions(people, slug):
    return [event["action"] for event in people.audit(slug) if event["action"].startswith("up")]


def use(registry, made, path="team/app"):
    """What a pull-through repository leaves in the database."""
    registry.change(
        """
        INSERT INTO repositories (id, organisation_id, path, created_at, upstream_id, upstream_path)
        SELECT u.id + 1, u.organisation_id, :path, 0, u.id, 'library/app'
          FROM upstreams AS u
          JOIN organisations AS o ON o.id = u.organisation_id
         WHERE u.name = :name AND o.slug = :slug AND u.deleted_at IS NULL
        """,
        path=path,
        name=made["name"],
        slug=made["organisation"],
    )


# Adding.


def test_an_upstream_is_added_shown_and_listed_without_its_secret(
    people, slug, admin, upstream, registry
):
    made = add(admin, slug, upstream)

    assert made["url"] == upstream.origin
    assert made["realm"] == f"{upstream.origin}/token"
    assert (made["preset"], made["credential_kind"], made["credential_name"]) == (
        "custom",
        "basic",
        "ada",
    )
    assert made["is_checked"]
    assert made["check_error"] is None
    assert admin.get(f"/upstreams/{made['id']}").json() == made
    assert admin.items(f"/organisations/{slug}/upstreams") == [made]
    assert actions(people, slug) == ["upstream.created"]
    assert upstream.log.count(kind="token") == 1
    everything = json.dumps([made, people.audit(slug)])
    (row,) = registry.rows("SELECT sealed FROM upstreams WHERE name = 'partner' ORDER BY id DESC")[
        :1
    ]
    assert PASSWORD not in everything
    assert PASSWORD not in row[0]
    assert row[0].startswith("v1.")


def test_upstreams_are_listed_in_parts_by_name(slug, admin, open_upstream):
    for name in ("c", "a", "b"):
        add(admin, slug, open_upstream, name=name, credential=None)

    first = admin.get(f"/organisations/{slug}/upstreams", params={"limit": 2}).json()
    rest = admin.get(f"/organisations/{slug}/upstreams", params={"cursor": first["next"]}).json()

    assert [each["name"] for each in first["items"] + rest["items"]] == ["a", "b", "c"]


def test_the_name_of_a_preset_says_the_rest(slug, admin, open_upstream):
    made = add(admin, slug, open_upstream, name="ghcr", preset="ghcr", credential=None)

    assert (made["preset"], made["url"]) == ("ghcr", open_upstream.origin)
    assert (made["realm"], made["credential_kind"]) == (None, "none")


def test_the_name_of_a_preset_counts_at_another_address_too(slug, admin, open_upstream):
    body = {"name": "docker-hub", "url": open_upstream.origin}

    field, _ = refusal(admin, slug, body)
    made = admin.made(f"/organisations/{slug}/upstreams", {**body, "is_anonymous": True})

    assert field == "is_anonymous"
    assert (made["preset"], made["url"]) == ("docker-hub", open_upstream.origin)


def test_docker_hub_without_a_credential_has_to_be_meant(slug, admin, open_upstream):
    body = new(open_upstream, name="docker-hub", preset="docker-hub", credential=None)

    field, sentence = refusal(admin, slug, body)
    made = admin.made(f"/organisations/{slug}/upstreams", {**body, "is_anonymous": True})

    assert field == "is_anonymous"
    assert "100 pulls in 6 hours" in sentence
    assert "--anonymous" in sentence
    assert made["preset"] == "docker-hub"


def test_a_preset_takes_its_own_kinds_of_credential(slug, admin, open_upstream):
    field, sentence = refusal(admin, slug, new(open_upstream, preset="ecr-public"))

    assert field == "credential.kind"
    assert "none" in sentence


def test_what_cannot_be_is_refused_with_the_field_at_fault(slug, admin):
    for body, field in IMPOSSIBLE:
        found, sentence = refusal(admin, slug, body)

        assert found == field, body
        assert "pattern '^" not in sentence  # a sentence, no expression


def test_the_servers_own_identity_is_lent_by_its_operator_alone(slug, admin):
    for role in ({}, {"role_arn": "arn:aws:iam::123456789012:role/pull"}):
        body = {**AWS, "credential": {"kind": "ecr", **role}}

        _, sentence = refusal(admin, slug, body, status=403)

        assert f"ENTREPOT_OUTBOUND__AMBIENT={slug}" in sentence
        assert "--access-key-id" in sentence


def test_a_wrong_password_is_refused_and_nothing_is_kept(slug, admin, upstream):
    body = new(upstream, credential={**ADA, "password": "wrong"})

    field, sentence = refusal(admin, slug, body)

    assert field == "credential"
    assert "partner" in sentence
    assert "wrong" not in sentence.replace("wrong or", "")


def test_a_wrong_password_of_a_registry_with_basic_is_refused(slug, admin, open_upstream):
    open_upstream.login = BasicLogin({"ada": PASSWORD})

    field, _ = refusal(admin, slug, new(open_upstream, credential={**ADA, "password": "no"}))
    made = add(admin, slug, open_upstream)

    assert field == "credential"
    assert made["realm"] is None


def test_a_token_service_of_somebody_else_gets_nothing(slug, admin, open_upstream):
    thief = RealmServer(Realm(people={"ada": PASSWORD}), host="127.0.0.2")
    with thief.running():
        open_upstream.login = BearerLogin(thief.realm, lambda: thief.url)

        field, _ = refusal(admin, slug, new(open_upstream))

        assert field == "url"
        assert thief.log.entries == []
        assert not open_upstream.log.told(PASSWORD)


def test_what_is_no_registry_is_refused(slug, admin, open_upstream):
    for fault in (faults.html, faults.status(404), faults.status(403)):
        open_upstream.heal()
        open_upstream.script(fault, kind="ping")

        field, sentence = refusal(admin, slug, new(open_upstream))

        assert field == "url"
        assert open_upstream.origin in sentence


def test_a_private_address_is_refused_without_telling_what_is_there(slug, admin):
    for url in ("http://10.1.2.3", "http://169.254.169.254", "http://[::1]:5000"):
        field, sentence = refusal(admin, slug, {"name": "inside", "url": url})

        assert field == "url"
        assert "ENTREPOT_OUTBOUND__ALLOW" in sentence


def test_what_fails_now_is_kept_only_when_asked_and_shows_as_unchecked(
    slug, admin, upstream, people
):
    rule = upstream.script(faults.status(503), kind="ping")

    _, sentence = refusal(admin, slug, new(upstream), status=502)
    made = add(admin, slug, upstream, save_unchecked=True)
    upstream.heal(rule)
    checked = admin.post(f"/upstreams/{made['id']}/check").json()

    assert "--save-unchecked" in sentence
    assert (made["is_checked"], made["checked_at"]) == (False, None)
    assert "503" in made["check_error"]
    assert (checked["is_checked"], checked["check_error"]) == (True, None)
    assert checked["realm"] == f"{upstream.origin}/token"
    assert actions(people, slug) == ["upstream.checked", "upstream.created"]


def test_nobody_listening_is_a_502_and_a_wrong_password_is_never_kept(slug, admin, upstream):
    dead = {"name": "dead", "url": f"http://127.0.0.1:{free_port()}", "save_unchecked": False}
    wrong = new(upstream, credential={**ADA, "password": "no"}, save_unchecked=True)

    refusal(admin, slug, dead, status=502)
    refusal(admin, slug, wrong)


def test_an_upstream_that_has_us_wait_is_a_429_with_its_time(slug, admin, open_upstream):
    open_upstream.script(faults.status(429, retry_after=7), kind="ping")

    answer = admin.post(f"/organisations/{slug}/upstreams", new(open_upstream))

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["type"] == "urn:entrepot:problem:upstream-busy"


def test_a_name_is_taken_once(slug, admin, kept, open_upstream):
    answer = admin.post(f"/organisations/{slug}/upstreams", new(open_upstream))

    assert answer.status_code == 409
    assert answer.json()["errors"][0]["field"] == "name"
    assert open_upstream.log.entries == []


def test_whoever_loses_the_right_while_it_is_tried_keeps_nothing(people, slug, admin, upstream):
    gate = Gate()
    upstream.script(faults.held(gate), kind="token")

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(admin.post, path(slug), new(upstream))
        gate.wait_until_reached()
        removed = people.admin.delete(f"/organisations/{slug}/members/{admin.name}")
        gate.open()
        answer = asked.result()

    assert removed.status_code == 204
    assert answer.status_code == 404
    assert people.admin.items(path(slug)) == []


# Changing.


def test_another_credential_is_tried_and_the_old_one_stays_if_it_fails(
    people, slug, admin, upstream, kept, registry
):
    realm_of(upstream).people["ada"] = "the new one"
    upstream.log.clear()
    before = registry.rows("SELECT sealed FROM upstreams ORDER BY id DESC LIMIT 1")

    refused = admin.patch(
        f"/upstreams/{kept['id']}", {"credential": {**ADA, "password": "not the new one"}}
    )
    still = registry.rows("SELECT sealed FROM upstreams ORDER BY id DESC LIMIT 1")
    changed = admin.patch(
        f"/upstreams/{kept['id']}", {"credential": {**ADA, "password": "the new one"}}
    )

    assert refused.status_code == 422
    assert still == before
    assert changed.status_code == 200, changed.text
    assert registry.rows("SELECT credential_version FROM upstreams ORDER BY id DESC LIMIT 1") == [
        (2,)
    ]
    assert actions(people, slug) == ["upstream.credential-changed", "upstream.created"]
    assert admin.post(f"/upstreams/{kept['id']}/check").json()["check_error"] is None


def test_name_and_patterns_change_without_asking_the_upstream(people, slug, admin, upstream, kept):
    upstream.log.clear()

    changed = admin.patch(
        f"/upstreams/{kept['id']}", {"name": "other", "member_patterns": ["library/*"]}
    ).json()

    assert (changed["name"], changed["member_patterns"]) == ("other", ["library/*"])
    assert upstream.log.entries == []
    assert actions(people, slug)[0] == "upstream.changed"


def test_a_change_of_what_somebody_else_changed_is_refused(admin, kept):
    etag = admin.get(f"/upstreams/{kept['id']}").headers["etag"]
    admin.patch(f"/upstreams/{kept['id']}", {"name": "other"})

    late = admin.patch(f"/upstreams/{kept['id']}", {"name": "late"}, headers={"if-match": etag})
    gone = admin.delete(f"/upstreams/{kept['id']}", headers={"if-match": etag})

    assert (late.status_code, gone.status_code) == (412, 412)


def test_another_address_never_gets_the_stored_credential(admin, kept, open_upstream):
    open_upstream.login = BasicLogin({"ada": PASSWORD})

    refused = admin.patch(f"/upstreams/{kept['id']}", {"url": open_upstream.origin})
    moved = admin.patch(
        f"/upstreams/{kept['id']}", {"url": open_upstream.origin, "credential": ADA}
    )

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "credential"
    assert moved.json()["url"] == open_upstream.origin


def test_another_address_is_for_what_nothing_uses(admin, kept, open_upstream, registry):
    open_upstream.login = BasicLogin({"ada": PASSWORD})
    use(registry, kept)

    answer = admin.patch(
        f"/upstreams/{kept['id']}", {"url": open_upstream.origin, "credential": ADA}
    )

    assert answer.status_code == 409
    assert "repository team/app" in answer.json()["detail"]


def test_a_check_says_what_is_wrong_and_pins_no_other_token_service(admin, upstream, kept):
    realm_of(upstream).people["ada"] = "changed there"
    failed = admin.post(f"/upstreams/{kept['id']}/check")
    realm_of(upstream).people["ada"] = PASSWORD
    upstream.login.realm.service = "another"
    moved = admin.post(f"/upstreams/{kept['id']}/check").json()
    accepted = admin.post(f"/upstreams/{kept['id']}/check", {"accept_realm": True}).json()

    assert failed.status_code == 200
    assert failed.json()["check_error"]
    assert "--accept-realm" in moved["check_error"]
    assert accepted["check_error"] is None


# Removing.


def test_an_upstream_that_nothing_uses_goes_with_its_credential(
    people, slug, admin, kept, registry
):
    gone = admin.delete(f"/upstreams/{kept['id']}")

    assert gone.status_code == 204
    assert admin.get(f"/upstreams/{kept['id']}").status_code == 404
    assert admin.items(path(slug)) == []
    assert registry.rows("SELECT sealed FROM upstreams ORDER BY id DESC LIMIT 1") == [(None,)]
    assert actions(people, slug)[0] == "upstream.deleted"


def test_an_upstream_in_use_stays_and_says_by_what(admin, kept, registry):
    use(registry, kept)

    refused = admin.delete(f"/upstreams/{kept['id']}")
    registry.change("UPDATE repositories SET deleted_at = 1 WHERE path = 'team/app'")

    assert refused.status_code == 409
    assert "repository team/app" in refused.json()["detail"]
    assert admin.delete(f"/upstreams/{kept['id']}").status_code == 204


# Who sees what.


def test_members_see_what_they_may_use_and_not_whose_credential_it_is(people, slug, admin, kept):
    member, reader = people.member(slug), people.member(slug, "reader")

    assert member.items(path(slug)) == []
    assert member.get(f"/upstreams/{kept['id']}").status_code == 404
    assert member.delete(f"/upstreams/{kept['id']}").status_code == 404

    admin.patch(f"/upstreams/{kept['id']}", {"member_patterns": ["library/*"]})
    (seen,) = member.items(path(slug))

    assert (seen["name"], seen["credential_name"], seen["external_id"]) == ("partner", None, None)
    assert member.get(f"/upstreams/{kept['id']}").status_code == 200
    assert member.patch(f"/upstreams/{kept['id']}", {"name": "mine"}).status_code == 403
    assert member.post(f"/upstreams/{kept['id']}/check").status_code == 403
    assert member.post(path(slug), {"name": "ghcr"}).status_code == 403
    assert reader.items(path(slug)) == []
    assert reader.get(f"/upstreams/{kept['id']}").status_code == 404


def test_another_organisation_sees_nothing(people, kept):
    other = people.organisation()
    stranger = people.member(other, "owner")

    for answer in (
        stranger.get(f"/upstreams/{kept['id']}"),
        stranger.patch(f"/upstreams/{kept['id']}", {"name": "mine"}),
        stranger.post(f"/upstreams/{kept['id']}/check"),
        stranger.delete(f"/upstreams/{kept['id']}"),
    ):
        assert answer.status_code == 404


def path(slug):
    return f"/organisations/{slug}/upstreams"
