"""Manifests, lists and referrers that are wrong: refused by a sentence, and never kept."""

import json

import pytest

from tests.support.server import OCI_INDEX, digest_of
from tests.support.upstreams import faults

PATH = "library/app"


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "1")


@pytest.fixture
def cache(stand, upstream, image):
    """A repository whose tags are asked for at each pull."""
    made = stand.cache(upstream, PATH, freshness=0)
    upstream.log.clear()
    return made


WRONG = {
    "a page with 200": faults.html,
    "gzip that nobody asked for": faults.gzip,
    "a body that breaks off": faults.truncated(20),
    "a connection that is reset": faults.reset(20),
    "nothing": faults.body(b""),
    "no JSON": faults.body(b"not found, sorry"),
    "a JSON list": faults.body(b"[]"),
    "an endless body": faults.endless,
    "more than a manifest can be": faults.body(b'{"a":"' + b"x" * (5 << 20) + b'"}'),
    "another digest in the header": faults.headers(Docker_Content_Digest="sha256:" + "0" * 64),
    "no digest at all in the header": faults.headers(Docker_Content_Digest="sha256:nonsense"),
    "bytes of another manifest": lambda reply: faults.body(
        reply.body + b" " if isinstance(reply.body, bytes) else b""
    )(reply),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_wrong_manifest_is_refused_and_not_kept(cache, upstream, image, kind, by):
    reference = "1" if by == "tag" else image.digest
    upstream.script(WRONG[kind], kind="manifest", method="GET")

    refused = cache.manifest(reference)

    if refused.status == 200:  # a header that lies about right bytes does no harm
        assert digest_of(refused.body) == image.digest
    else:
        assert refused.status in {502, 504}, refused
        assert json.loads(refused.body)["errors"][0]["message"]
    stored = cache.stand.registry.rows(
        "SELECT digest FROM manifests AS m, repositories AS r "
        "WHERE m.repository_id = r.id AND r.path = :path",
        path=cache.name,
    )
    assert set(stored) <= {(image.digest,)}


@pytest.mark.parametrize("kind", ["a page with 200", "bytes of another manifest", "nothing"])
def test_after_a_wrong_manifest_the_right_one_comes(cache, upstream, image, kind):
    upstream.script(WRONG[kind], kind="manifest", method="GET", times=1)
    assert cache.manifest(image.digest).status == 502

    answer = cache.manifest(image.digest)

    assert (answer.status, answer.body) == (200, image.body)


def test_a_wrong_manifest_leaves_the_one_that_was_there(cache, upstream, image):
    assert cache.manifest("1").body == image.body
    upstream.put_image(PATH, "1")
    upstream.script(faults.html, kind="manifest")

    answer = cache.manifest("1")

    assert (answer.status, answer.body) == (200, image.body)
    assert answer.headers["warning"].startswith("299 - ")


def test_a_manifest_of_the_first_schema_is_refused_with_the_reason(cache, upstream):
    upstream.put_schema1(PATH, "old")

    refused = cache.manifest("old")

    assert refused.status == 502
    assert "schema" in refused.error


HEADS = {
    "no digest": faults.without_headers("docker-content-digest"),
    "no length": faults.without_headers("content-length"),
    "not allowed": faults.status(405),
    "a page": faults.html,
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_says_nothing_is_made_up_for_by_a_get(cache, upstream, image, kind):
    upstream.script(HEADS[kind], kind="manifest", method="HEAD")
    assert cache.manifest("1").body == image.body
    moved = upstream.put_image(PATH, "1")

    answer = cache.manifest("1")

    assert (answer.status, answer.body) == (200, moved.body)


def test_a_manifest_without_a_digest_header_is_served_with_its_own(cache, upstream, image):
    upstream.manners.sends_digest = False

    answer = cache.manifest("1")

    assert (answer.body, answer.headers["docker-content-digest"]) == (image.body, image.digest)


def test_an_index_comes_as_it_is_and_its_children_on_demand(cache, upstream):
    index = upstream.put_index(PATH, "many", platforms=("amd64", "arm64", "riscv64"))

    answer = cache.manifest("many")

    assert (answer.body, answer.headers["content-type"]) == (index.body, OCI_INDEX)
    children = {each["digest"] for each in json.loads(index.body)["manifests"]}
    asked = {entry.reference for entry in upstream.log.of(kind="manifest")}
    assert not children & asked
    child = children.pop()
    assert cache.manifest(child).status == 200


@pytest.mark.parametrize(
    "accept", ["*/*", OCI_INDEX, f"{OCI_INDEX};q=0.9, */*;q=0.1", "application/json", ""]
)
def test_what_a_client_accepts_changes_neither_the_question_nor_the_answer(
    cache, upstream, image, accept
):
    answer = cache.get("manifests/1", accept=accept)

    assert answer.body == image.body
    (asked,) = upstream.log.of(kind="manifest", method="GET")
    for kind in ("oci.image.index", "oci.image.manifest", "docker.distribution.manifest.list"):
        assert kind in asked.headers["accept"]
    assert asked.headers["accept-encoding"] == "identity"


def test_no_credential_of_the_client_goes_on(cache, upstream, image):
    cache.manifest("1")
    cache.blob(image.layers[0])

    assert not upstream.log.told(cache.token)
    assert all(not entry.authorization for entry in upstream.log.entries)


# Lists.


def tags_of(cache):
    answer = cache.get("tags/list")
    return answer, json.loads(answer.body).get("tags") if answer.status == 200 else None


@pytest.mark.parametrize("tags", [None, []])
def test_a_list_without_tags_is_empty(cache, upstream, tags):
    body = json.dumps({"name": PATH, "tags": tags}).encode()
    upstream.script(faults.body(body), kind="tags")

    answer, found = tags_of(cache)

    assert (answer.status, found) == (200, [])


def test_what_is_no_tag_is_left_out_of_a_list(cache, upstream):
    names = ["1", "sha256:" + "0" * 64, "../../etc", "a b", "", 7, None, "x" * 129, "2"]
    body = json.dumps({"name": PATH, "tags": names}).encode()
    upstream.script(faults.body(body), kind="tags")

    _, found = tags_of(cache)

    assert found == ["1", "2"]


def test_the_pages_of_a_list_are_joined(cache, upstream):
    for number in range(7):
        upstream.put_image(PATH, f"v{number}")
    upstream.manners.tags_in_a_page = 3

    _, found = tags_of(cache)

    assert found == ["1", *(f"v{number}" for number in range(7))]


LINKS = {
    "back to the same page": f"/v2/{PATH}/tags/list",
    "another host": "http://127.0.0.2:1/v2/x/tags/list",
    "another scheme": "https://127.0.0.1:1/v2/x/tags/list",
    "a file": "file:///etc/passwd",
}


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_that_leads_astray_is_not_followed_for_ever(cache, upstream, kind):
    link = f'<{LINKS[kind]}>; rel="next"'
    upstream.script(faults.headers(Link=link), kind="tags")

    answer, found = tags_of(cache)

    assert answer.status == 502 or found == ["1"]
    assert upstream.log.count(kind="tags") < 200


def test_half_a_list_does_not_pass_for_all_of_it(cache, upstream):
    upstream.script(faults.headers(Link='</v2/gone/tags/list>; rel="next"'), kind="tags", name=PATH)

    answer, _ = tags_of(cache)

    assert answer.status == 502


@pytest.mark.parametrize("fault", [faults.html, faults.body(b"[1]"), faults.endless])
def test_a_wrong_list_is_refused(cache, upstream, fault):
    upstream.script(fault, kind="tags")

    answer, _ = tags_of(cache)

    assert answer.status == 502


def test_a_list_is_stale_when_the_upstream_fails(cache, upstream):
    assert tags_of(cache)[1] == ["1"]
    upstream.put_image(PATH, "2")
    upstream.script(faults.status(500), kind="tags")

    answer, found = tags_of(cache)

    assert found == ["1"]
    assert answer.headers["warning"].startswith("299 - ")


# Referrers.


def referrers_of(cache, digest):
    answer = cache.get(f"referrers/{digest}")
    return answer, [each["digest"] for each in json.loads(answer.body).get("manifests", ())]


@pytest.mark.parametrize("has_api", [True, False])
def test_referrers_come_from_the_api_or_the_fallback_tag(cache, upstream, image, has_api):
    signature = upstream.put_referrer(PATH, image, "application/vnd.example.signature")
    upstream.manners.has_referrers_api = has_api
    if not has_api:
        listed = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": upstream.repository(PATH).referrers(image.digest),
        }
        fallback = image.digest.replace(":", "-")
        upstream.repository(PATH).put_manifest(listed, fallback)

    answer, found = referrers_of(cache, image.digest)

    assert answer.status == 200
    assert found == [signature.digest]


@pytest.mark.parametrize("fault", [faults.html, faults.endless, faults.body(b"[]")])
def test_wrong_referrers_are_refused(cache, upstream, image, fault):
    upstream.script(fault, kind="referrers")

    answer = cache.get(f"referrers/{image.digest}")

    assert answer.status in {200, 502}
    if answer.status == 200:
        assert json.loads(answer.body)["manifests"] == []
