"""The catalog of repositories: what the caller may pull, and no other, in its links either."""

import re
import secrets

import pytest

from tests.protocol.test_tags import next_of
from tests.protocol.wire import send
from tests.support.server import Client, basic


@pytest.fixture
def tenant(closed, slug):
    """An organisation with three repositories: its host, and its token."""
    closed.new_organisation(slug)
    token = closed.new_token("org", slug)
    client = Client(closed.server, token=token)
    for path in ("a", "b/c", "b/d"):
        client.push_image(f"{slug}/{path}")
    client.close()
    return {"host": f"{slug}.{closed.public_host}"}, token


def pages(closed, token, **query):
    """Every page of the catalog that this caller gets: its names and its link."""
    client = closed.client(token)
    path = "/v2/_catalog?" + "&".join(f"{key}={value}" for key, value in query.items())
    found = []
    while path:
        answer = client.http.get(path, headers=basic(token))
        assert answer.status_code == 200, answer.text
        link = answer.headers.get("link", "")
        found.append((answer.json()["repositories"], link))
        match = re.match("<([^>]*)>", link)
        path = match[1] if match else ""
    client.close()
    return found


def test_repositories_with_an_image_are_listed(client, name):
    client.push_image(name)
    client.push_blob(f"{name}-empty", b"no image")

    answer = client.request("GET", f"/v2/_catalog?n=1&last={name[:-1]}")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"repositories": [name]}


def test_nothing_is_an_empty_list(client):
    for query in ("n=0", "last=zzzz"):
        answer = client.request("GET", f"/v2/_catalog?{query}")

        assert answer.status_code == 200
        assert answer.json() == {"repositories": []}
        assert "link" not in answer.headers


def test_pages_linked_together_are_the_whole_list(closed, tenant):
    headers, token = tenant
    client = Client(closed.server, token=token)

    seen, target = [], "/v2/_catalog?n=2"
    while target:
        answer = client.request("GET", target, headers=headers)
        seen += answer.json()["repositories"]
        target = next_of(answer)

    assert seen == ["a", "b/c", "b/d"]
    client.close()


def test_an_absurd_page_is_clamped(client):
    for n in (10**12, 10**30):
        assert client.request("GET", f"/v2/_catalog?n={n}").status_code == 200


def test_other_organisations_are_never_listed(closed, owner, tenant, slug):
    headers, token = tenant
    closed.new_organisation(f"{slug}-x")
    stranger = closed.new_token("org", f"{slug}-x")

    theirs = send(
        closed.server, "GET", "/v2/_catalog", {**basic(stranger), "Host": headers["host"]}
    )
    mine = send(closed.server, "GET", "/v2/_catalog", {**basic(token), "Host": headers["host"]})
    main = owner.request("GET", "/v2/_catalog?n=1000").json()["repositories"]

    assert theirs.status == 200
    assert theirs.body == b'{"repositories":[]}'
    assert b"b/c" in mine.body
    assert not any(path.startswith(slug) or path == "b/c" for path in main)


def test_a_narrow_token_sees_what_it_may_pull(closed, tenant, slug):
    headers, _ = tenant
    token = closed.new_token("org", slug, patterns=("b/*",))

    answer = send(closed.server, "GET", "/v2/_catalog", {**basic(token), "Host": headers["host"]})

    assert answer.body == b'{"repositories":["b/c","b/d"]}'


def test_a_bearer_token_needs_the_scope_of_the_catalog(closed, owner):
    owner.push_image(f"test/{secrets.token_hex(6)}")
    without = closed.bearer(owner.token)
    with_it = closed.bearer(owner.token, "registry:catalog:*")

    assert send(closed.server, "GET", "/v2/_catalog", without).body == b'{"repositories":[]}'
    assert b"test/" in send(closed.server, "GET", "/v2/_catalog", with_it).body


def test_the_challenge_names_the_scope_of_the_catalog(closed):
    answer = send(closed.server, "GET", "/v2/_catalog")

    assert answer.status == 401
    assert 'scope="registry:catalog:*"' in answer.headers["www-authenticate"]


def test_a_stranger_learns_no_name_from_the_links_of_the_catalog(closed, owner, slug):
    owner.push_image(f"{slug}-a/one")
    owner.push_image(f"{slug}-b/two")
    closed.new_organisation(slug)
    stranger = closed.new_token("org", slug)

    assert pages(closed, stranger, n=1) == [([], "")]


def test_a_narrow_token_gets_its_names_and_links_that_lead_from_one_to_the_next(
    closed, owner, name
):
    for number in range(3):
        owner.push_image(f"{name}/a{number}-hidden")
        owner.push_image(f"{name}/b{number}-shown")
    narrow = closed.new_token("pull", patterns=(f"{name}/*-shown",))

    found = pages(closed, narrow, n=1)

    assert [names for names, _ in found] == [[f"{name}/b{number}-shown"] for number in range(3)]
    assert not any("hidden" in link for _, link in found)
    assert pages(closed, narrow) == [([f"{name}/b{n}-shown" for n in range(3)], "")]


def test_a_projects_token_gets_the_projects_repository(closed, owner):
    project = closed.new_project()
    owner.push_image(project)
    token = closed.new_token("pull", project=project)

    assert pages(closed, token, n=1) == [([project], "")]
