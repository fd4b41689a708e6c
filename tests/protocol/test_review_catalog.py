"""The catalog names what the caller may pull, and nothing else, in its links either."""

import re

from tests.support.server import basic


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
