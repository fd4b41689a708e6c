"""Listing tags (end-8a, end-8b)."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.protocol.documents import code_of
from tests.support.server import OCI_MANIFEST, digest_of

# Prefixes of each other, and an order that locales would change.
TAGS = ["1.0", "1.0.1", "1.10", "A", "B_b", "Z", "_x", "a", "a-b", "a.b", "aa", "latest", "z"]


@pytest.fixture
def tagged(client, name):
    """A repository with TAGS."""
    body = json.dumps(client.make_image(name)).encode()
    for start in range(0, len(TAGS), 10):
        answer = client.request(
            "PUT",
            f"/v2/{name}/manifests/{digest_of(body)}",
            params={"tag": TAGS[start : start + 10]},
            content=body,
            headers={"content-type": OCI_MANIFEST},
        )
        assert answer.status_code == 201
    return f"/v2/{name}/tags/list"


def next_of(answer):
    """The target of the Link header, if there is one."""
    link = answer.headers.get("link")
    if link is None:
        return None
    match = re.fullmatch(r'<(/v2/[^>]+)>; rel="next"', link)
    assert match, link
    return match[1]


def test_all_tags_come_in_byte_order(client, name, tagged):
    answer = client.request("GET", tagged)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"name": name, "tags": TAGS}
    assert "link" not in answer.headers


@pytest.mark.parametrize("n", [1, 5, 12])
def test_pages_linked_together_are_the_whole_list(client, tagged, n):
    seen, target = [], f"{tagged}?n={n}"
    while target:
        answer = client.request("GET", target)
        page = answer.json()["tags"]
        target = next_of(answer)
        assert len(page) == n or target is None
        seen += page

    assert seen == TAGS


def test_a_page_that_holds_the_rest_links_to_nothing(client, tagged):
    for n in (len(TAGS), len(TAGS) + 1):
        answer = client.request("GET", tagged, params={"n": n})

        assert answer.json()["tags"] == TAGS
        assert "link" not in answer.headers


def test_n_of_nought_is_an_empty_page_without_a_link(client, name, tagged):
    for params in ({"n": 0}, {"n": 0, "last": "a"}):
        answer = client.request("GET", tagged, params=params)

        assert answer.status_code == 200
        assert answer.json() == {"name": name, "tags": []}
        assert "link" not in answer.headers


def test_n_above_the_cap_is_clamped(client, tagged):
    for n in (1_001, 10_000, 10**12, 10**40):
        answer = client.request("GET", tagged, params={"n": n})

        assert answer.status_code == 200, n
        assert answer.json()["tags"] == TAGS


def test_a_page_that_cannot_be_understood_is_refused(client, tagged):
    for query in ("n=-1", "n=x", "n=", "n=1.5", "n=%D9%A3", "n=0x10", "last=a%00", "last=%FF"):
        answer = client.request("GET", f"{tagged}?{query}")

        assert answer.status_code == 400, query
        assert answer.json()["errors"]


def test_last_is_exclusive_and_need_not_exist(client, tagged):
    for last in ("a", "1.0", "zzz", "", "-", "Y", "a.", "~", "%", "ä"):
        answer = client.request("GET", tagged, params={"last": last})

        assert answer.status_code == 200, last
        assert answer.json()["tags"] == [tag for tag in TAGS if tag > last]


def test_n_and_last_go_together(client, tagged):
    answer = client.request("GET", tagged, params={"n": 3, "last": "1.10"})

    assert answer.json()["tags"] == ["A", "B_b", "Z"]
    query = parse_qs(urlsplit(next_of(answer)).query)
    assert query == {"n": ["3"], "last": ["Z"]}


def test_a_repository_without_tags_has_an_empty_list(client, name):
    client.push_blob(name, b"a blob")
    empty = client.request("GET", f"/v2/{name}/tags/list")
    body = json.dumps(client.make_image(name)).encode()
    client.push_manifest(name, digest_of(body), body)

    untagged = client.request("GET", f"/v2/{name}/tags/list")

    for answer in (empty, untagged):
        assert answer.status_code == 200
        assert answer.json() == {"name": name, "tags": []}


def test_a_repository_that_is_not_there_has_no_list(client, name):
    answer = client.request("GET", f"/v2/{name}/tags/list")

    assert answer.status_code == 404
    assert code_of(answer) == "NAME_UNKNOWN"


def test_a_tag_that_looks_like_a_digest_is_a_tag(client, name):
    digest = client.push_image(name, "v1")
    tag = digest.replace(":", "-")

    missing = client.request("GET", f"/v2/{name}/manifests/{tag}")
    other = client.push_image(name, tag)
    found = client.request("GET", f"/v2/{name}/manifests/{tag}")

    assert missing.status_code == 404
    assert found.headers["docker-content-digest"] == other != digest
    assert client.request("GET", f"/v2/{name}/tags/list").json()["tags"] == [tag, "v1"]


def test_a_tag_is_listed_once_while_others_come_and_go(client, name, tagged):
    first = client.request("GET", tagged, params={"n": 7})
    client.request("DELETE", f"/v2/{name}/manifests/A")
    client.push_image(name, "A0")

    rest = client.request("GET", next_of(first)).json()["tags"]

    assert first.json()["tags"] + rest == TAGS
