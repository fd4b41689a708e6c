"""Retention as programs meet it: policies, previews, runs."""

import json

import pytest

from tests.support.server import OCI_INDEX

BUILDS = [f"build-{number}" for number in range(1, 7)]


@pytest.fixture
def client(protocol, owner):
    return protocol(owner)


@pytest.fixture
def app(client, owner, slug):
    """The path of a repository's retention, and the repository, with six builds and a release."""
    name = f"{slug}/app"
    for tag in ["v1.0", *BUILDS]:
        put(client, name, tag)
    (found,) = owner.get(f"/organisations/{slug}/repositories").json()["items"]
    return f"/repositories/{found['id']}/retention"


def put(client, name, tag, **headers):
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    body = json.dumps(index | {"annotations": {"word": tag}})
    headers = {"content-type": OCI_INDEX} | headers
    answer = client.request("PUT", f"/v2/{name}/manifests/{tag}", content=body, headers=headers)
    assert answer.status_code == 201, answer.text


def policy(**said):
    return {
        "days": None,
        "tags": None,
        "never": False,
        "keep": [],
        "pulled_days": None,
        "untagged_days": None,
    } | said


def preview(caller, app, wanted=None, **query):
    answer = caller.post(f"{app}/preview", {"policy": wanted} if wanted else {}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tags(caller, app):
    items = caller.get(app.replace("/retention", "/tags")).json()["items"]
    return {item["name"] for item in items}


def test_the_servers_policy_holds_until_somebody_says_otherwise(owner, slug, app):
    at_first = owner.get(app).json()
    owner.patch(f"/organisations/{slug}", {"retention": {"days": 30, "keep": ["v*"]}})
    of_organisation = owner.get(app).json()
    own = owner.request("PUT", app, {"never": True}).json()
    removed = owner.request("DELETE", app)

    assert (at_first["source"], at_first["effective"]) == ("server", policy(days=7))
    assert at_first["sentence"] == "7 days since the last push"
    assert of_organisation["source"] == "organisation"
    assert of_organisation["effective"] == policy(days=30, keep=["v*"])
    assert (own["source"], own["own"]) == ("repository", policy(never=True))
    assert own["inherited"] == of_organisation["effective"]
    assert removed.status_code == 204
    assert owner.get(app).json()["own"] is None


def test_an_organisation_shows_what_holds_and_what_would_without_its_policy(owner, slug):
    before = owner.get(f"/organisations/{slug}").json()
    wanted = policy(tags=25, keep=["v*"], pulled_days=3, untagged_days=2)

    after = owner.patch(f"/organisations/{slug}", {"retention": wanted}).json()

    assert (before["retention"], before["effective_retention"]) == (None, policy(days=7))
    assert after["retention"] == after["effective_retention"] == wanted
    assert after["inherited_retention"] == policy(days=7)


def test_a_preview_says_of_each_tag_whether_it_goes_and_why(owner, app):
    found = preview(owner, app, {"tags": 4, "keep": ["v*"]})

    reasons = {line["tag"]: (line["goes"], line["reason"]) for line in found["items"]}
    assert reasons["v1.0"] == (False, "kept by pattern v*")
    assert reasons["build-1"] == (True, "beyond the newest 4")
    assert reasons["build-6"] == (False, "one of the newest 4")
    assert not any(line["goes_now"] for line in found["items"])
    assert (found["proposed"]["tags"], found["proposed"]["only"]) == (2, 2)
    assert found["proposed"]["freed_bytes"] > 0
    assert (found["present"]["tags"], found["present"]["freed_bytes"]) == (0, 0)


def test_a_preview_comes_in_parts_the_sums_with_the_first(owner, app):
    first = preview(owner, app, {"tags": 1}, limit=3)
    seen, part = [line["tag"] for line in first["items"]], first
    while part["next"]:
        part = preview(owner, app, {"tags": 1}, limit=3, cursor=part["next"])
        seen += [line["tag"] for line in part["items"]]
        assert part["proposed"] is None

    assert seen == ["v1.0", *BUILDS]
    assert first["proposed"]["tags"] == 6


def test_a_run_removes_what_its_preview_said(owner, app):
    owner.request("PUT", app, {"tags": 2, "keep": ["v*"]})
    going = {line["tag"] for line in preview(owner, app)["items"] if line["goes"]}

    ran = owner.post(f"{app}/run")
    again = owner.post(f"{app}/run").json()

    assert ran.json() == {"tags": 4, "untagged": 0, "is_done": True}
    assert going == set(BUILDS[:4])
    assert tags(owner, app) == {"v1.0", *BUILDS[4:]}
    assert again["tags"] == 0


def test_a_preview_changes_nothing(owner, app):
    version = owner.get(app).headers["etag"]

    preview(owner, app, {"tags": 1})

    assert tags(owner, app) == {"v1.0", *BUILDS}
    assert owner.get(app).headers["etag"] == version


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"days": 0},
        {"days": 7, "tags": 5},
        {"days": 7, "never": True},
        {"never": False},
        {"tags": 1_000_001},
        {"days": "7"},
        {"days": 7, "keep": ["a b"]},
        {"days": 7, "keep": ["v*"] * 65},
        {"days": 7, "pulled_days": 0},
        {"days": 7, "forever": True},
    ],
)
def test_a_policy_that_says_nothing_or_too_much_is_refused(owner, slug, app, said):
    answers = [
        owner.request("PUT", app, said),
        owner.post(f"{app}/preview", {"policy": said}),
        owner.patch(f"/organisations/{slug}", {"retention": said}),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert owner.get(app).json()["source"] == "server"


def test_two_people_do_not_overwrite_each_other(owner, app):
    seen = owner.get(app).headers["etag"]
    owner.request("PUT", app, {"days": 30})

    late = owner.request("PUT", app, {"days": 1}, headers={"if-match": seen})
    late_too = owner.request("DELETE", app, headers={"if-match": seen})

    assert (late.status_code, late_too.status_code) == (412, 412)
    assert owner.get(app).json()["own"]["days"] == 30


def test_who_may_pull_sees_the_policy_but_neither_tries_nor_sets_nor_runs(people, slug, app):
    reader = people.member(slug, "reader")

    assert reader.get(app).status_code == 200
    assert reader.post(f"{app}/preview", {}).status_code == 403
    assert reader.request("PUT", app, {"days": 1}).status_code == 403
    assert reader.request("DELETE", app).status_code == 403
    assert reader.post(f"{app}/run").status_code == 403


def test_changes_and_runs_are_in_the_audit_log(owner, slug, app):
    owner.request("PUT", app, {"tags": 3})
    owner.post(f"{app}/run")
    owner.patch(f"/organisations/{slug}", {"retention": {"never": True}})

    log = owner.get(f"/organisations/{slug}/audit").json()["items"]

    found = {event["action"]: event["details"] for event in log}
    assert found["retention.changed"] == {"from": None, "to": "the newest 3 tags"}
    assert found["retention.ran"]["policy"] == "the newest 3 tags"
    assert set(found["retention.ran"]["tags"]) == {"v1.0", *BUILDS[:3]}
    assert found["organisation.changed"]["retention"] == "never deleted"


def test_a_read_only_repository_runs_no_retention(owner, app):
    owner.request("PUT", app, {"tags": 1})
    owner.patch(app.removesuffix("/retention"), {"is_read_only": True})

    assert owner.post(f"{app}/run").status_code == 403
    assert tags(owner, app) == {"v1.0", *BUILDS}
