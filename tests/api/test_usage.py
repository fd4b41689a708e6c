"""Usage and quotas as people and programs meet them."""

import csv
import io
import json
import re
from decimal import Decimal

import pytest

from tests.support.server import OCI_MANIFEST, digest_of


@pytest.fixture
def boss(people, slug):
    """Its owner."""
    return people.member(slug, "owner")


@pytest.fixture
def client(protocol, boss):
    return protocol(boss)


def push(client, name, content):
    return client.request(
        "POST", f"/v2/{name}/blobs/uploads/", params={"digest": digest_of(content)}, content=content
    )


def tag(client, name, config, reference):
    part = {"mediaType": "application/json", "digest": digest_of(config), "size": len(config)}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": part,
        "layers": [],
    }
    body = json.dumps(document).encode()
    path = f"/v2/{name}/manifests/{reference}"
    return client.request("PUT", path, content=body, headers={"content-type": OCI_MANIFEST}), body


def usage_of(caller, slug, **query):
    answer = caller.get(f"/organisations/{slug}/usage", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_organisation_counts_once_what_its_repositories_share(client, boss, slug):
    for repository in ("app", "base"):
        assert push(client, f"{slug}/{repository}", b"shared" * 100).status_code == 201
    assert push(client, f"{slug}/app", b"own" * 100).status_code == 201

    found = usage_of(boss, slug)

    assert [(line["name"], line["usage"]["bytes"]) for line in found["items"]] == [
        ("app", 900),
        ("base", 600),
    ]
    assert found["usage"]["bytes"] == 900
    assert found["repositories"]["bytes"] == 1_500
    assert found["shared"]["bytes"] == 600
    assert found["quota"]["bytes"] == {"used": 900, "limit": None, "percent": None}
    assert found["usage"]["byte_seconds"] > 0


def test_lines_come_in_pages(client, boss, slug):
    for number in range(3):
        push(client, f"{slug}/app{number}", b"content")

    first = usage_of(boss, slug, limit=2)
    rest = usage_of(boss, slug, limit=2, cursor=first["next"])

    assert [line["name"] for line in first["items"] + rest["items"]] == ["app0", "app1", "app2"]
    assert rest["next"] is None


def test_a_project_has_what_its_builds_hold(client, boss, slug):
    project = boss.made(f"/organisations/{slug}/projects", {"name": "=1+1"})
    push(client, project["id"], b"build" * 10)
    push(client, f"{slug}/app", b"other")

    one = boss.get(f"/projects/{project['id']}/usage").json()
    (line,) = usage_of(boss, slug, by="project")["items"]

    assert one["usage"]["bytes"] == line["usage"]["bytes"] == 50
    assert (line["id"], line["name"]) == (project["id"], "=1+1")


def test_the_csv_adds_up_and_computes_nothing(client, boss, slug):
    project = boss.made(f"/organisations/{slug}/projects", {"name": "=HYPERLINK(1)"})
    push(client, project["id"], b"build" * 10)

    answer = boss.get(f"/organisations/{slug}/usage", params={"format": "csv", "by": "project"})

    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["kind"] for row in rows] == ["project", "repositories", "shared", "organisation"]
    assert rows[0]["name"] == "'=HYPERLINK(1)"
    assert [row["bytes"] for row in rows] == ["50", "50", "0", "50"]
    assert all(Decimal(row["price"]) >= 0 for row in rows)


@pytest.mark.parametrize(
    "query",
    [
        {"month": "2026-13"},
        {"month": "2999-01"},
        {"from": "2026-01-01"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2026-01-02", "month": "2026-01"},
        {"to": "9999-12-31", "from": "2026-01-01"},
    ],
)
def test_a_period_that_is_none_is_refused(boss, slug, query):
    assert boss.get(f"/organisations/{slug}/usage", params=query).status_code == 422


def test_a_server_administrator_sees_the_sums_alone(people, client, slug):
    push(client, f"{slug}/app", b"content")

    found = usage_of(people.user(is_administrator=True), slug)

    assert found["usage"]["bytes"] == 7
    assert found["items"] == []


def test_an_owner_sets_limits_and_an_administrator_of_the_organisation_does_not(boss, owner, slug):
    path = f"/organisations/{slug}"

    assert owner.patch(path, {"quota": {"bytes": 1}}).status_code == 403
    assert boss.patch(path, {"quota": {"bytes": 5, "tags": 6}}).status_code == 200
    changed = boss.patch(path, {"quota": {"tags": None}}).json()

    assert changed["quota"] == {"bytes": 5, "repositories": None, "tags": None}
    assert boss.patch(path, {"quota": {"bytes": -1}}).status_code == 422


def test_beyond_the_quota_an_upload_is_refused_before_its_bytes(client, boss, slug):
    name = f"{slug}/app"
    assert push(client, name, b"a" * 100).status_code == 201
    boss.patch(f"/organisations/{slug}", {"quota": {"bytes": 150}})
    upload = client.request("POST", f"/v2/{name}/blobs/uploads/")
    assert upload.status_code == 202

    refused = client.request("PATCH", upload.headers["location"], content=b"b" * 51)

    assert refused.status_code == 403
    (error,) = refused.json()["errors"]
    assert error["code"] == "DENIED"
    assert error["detail"] == {"quota": "bytes", "limit": 150, "used": 100, "needed": 51}
    fits = client.request("PATCH", upload.headers["location"], content=b"b" * 50)
    assert fits.status_code == 202
    digest = digest_of(b"b" * 50)
    done = client.request("PUT", fits.headers["location"], params={"digest": digest})
    assert done.status_code == 201
    assert re.fullmatch(
        r'299 - "the organisation has used .* \(100 %\) .*"', done.headers["warning"]
    )
    full = client.request("POST", f"/v2/{name}/blobs/uploads/")
    assert full.status_code == 403
    assert client.request("GET", f"/v2/{name}/blobs/{digest}").status_code == 200
    assert usage_of(boss, slug)["warnings"] == [
        "the organisation has used 150 B of 150 B (100 %) of its quota"
    ]


def test_a_body_of_unknown_length_breaks_off_where_it_stops_to_fit(client, boss, slug):
    boss.patch(f"/organisations/{slug}", {"quota": {"bytes": 1_000}})
    upload = client.request("POST", f"/v2/{slug}/app/blobs/uploads/")

    answer = client.request(
        "PATCH", upload.headers["location"], content=iter([b"a" * 900, b"b" * 900])
    )

    assert answer.status_code == 403


def test_a_manifest_that_brings_too_much_is_not_stored(client, boss, slug):
    name = f"{slug}/app"
    push(client, name, b"config")
    boss.patch(f"/organisations/{slug}", {"quota": {"bytes": 100}})

    refused, body = tag(client, name, b"config", "v1")

    assert refused.status_code == 403
    assert client.request("GET", f"/v2/{name}/manifests/{digest_of(body)}").status_code == 404


def test_tags_and_repositories_are_limited(client, boss, slug):
    name = f"{slug}/app"
    push(client, name, b"config")
    boss.patch(f"/organisations/{slug}", {"quota": {"repositories": 1, "tags": 1}})

    assert tag(client, name, b"config", "v1")[0].status_code == 201
    assert tag(client, name, b"config", "v2")[0].status_code == 403
    assert tag(client, name, b"config", "v1")[0].status_code == 201
    assert push(client, f"{slug}/other", b"config").status_code == 403
    made = boss.post(f"/organisations/{slug}/repositories", {"path": "third"})
    assert made.status_code == 403
    assert "quota is 1 repositories" in made.json()["detail"]
    limits = usage_of(boss, slug)["quota"]
    assert limits["repositories"] == {"used": 1, "limit": 1, "percent": 100}
    assert limits["tags"] == {"used": 1, "limit": 1, "percent": 100}
