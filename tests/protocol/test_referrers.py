"""Listing referrers (end-12a, end-12b)."""

import json
import secrets

import pytest

from tests.protocol.documents import EMPTY, artifact, child, code_of, index, put
from tests.protocol.registry import credential_of
from tests.protocol.test_tags import next_of
from tests.protocol.wire import send
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of

SBOM = "application/vnd.example.sbom+json"
SIGNATURE = "application/vnd.example.signature.v1+json"


@pytest.fixture
def subject(client, name):
    """The descriptor of a pushed image."""
    image = client.make_image(name)
    return child(client.push_manifest(name, "v1", image), len(json.dumps(image)))


def attach(client, name, subject, **fields):
    """Push a referrer by digest; its descriptor as it should be listed."""
    document = artifact(client, name, subject=subject, **fields)
    body = json.dumps(document).encode()
    answer = put(client, name, digest_of(body), body, OCI_MANIFEST)
    assert answer.status_code == 201
    assert answer.headers["oci-subject"] == subject["digest"]
    listed = child(digest_of(body), len(body))
    return listed | {key: value for key, value in fields.items() if key != "config"}


def referrers(client, name, digest, **params):
    answer = client.request("GET", f"/v2/{name}/referrers/{digest}", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == OCI_INDEX
    document = answer.json()
    assert set(document) == {"schemaVersion", "mediaType", "manifests"}
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    return answer, document["manifests"]


def by_digest(descriptors):
    return sorted(descriptors, key=lambda descriptor: descriptor["digest"])


def test_nothing_refers_to_what_is_not_there(client, name):
    for digest in (f"sha256:{'0' * 64}", digest_of(b"x"), digest_of(b"x", "sha512")):
        answer, manifests = referrers(client, name, digest)

        assert manifests == []
        assert b'"manifests":[]' in answer.content
        assert "oci-filters-applied" not in answer.headers
        assert "link" not in answer.headers


def test_referrers_are_listed_with_type_and_annotations(client, name, subject):
    expected = [
        attach(client, name, subject, artifactType=SBOM, annotations={"a": "b", "é": "ü"}),
        attach(client, name, subject, artifactType=SIGNATURE),
    ]

    _, manifests = referrers(client, name, subject["digest"])

    assert manifests == by_digest(expected)


def test_an_artifact_without_a_type_has_that_of_its_configuration(client, name, subject):
    plain = attach(client, name, subject)

    _, manifests = referrers(client, name, subject["digest"])

    assert manifests == [plain | {"artifactType": EMPTY}]


def test_an_index_may_refer_too(client, name, subject):
    bare = index([subject], subject=subject)
    typed = index([], subject=subject, artifactType=SBOM, annotations={"x": "y"})
    for tag, document in (("bare", bare), ("typed", typed)):
        assert put(client, name, tag, document, OCI_INDEX).headers["oci-subject"]

    _, manifests = referrers(client, name, subject["digest"])

    bodies = [json.dumps(document).encode() for document in (bare, typed)]
    descriptors = [child(digest_of(body), len(body), OCI_INDEX) for body in bodies]
    descriptors[1] |= {"artifactType": SBOM, "annotations": {"x": "y"}}
    assert manifests == by_digest(descriptors)


def test_a_filter_is_applied_and_says_so(client, name, subject):
    attach(client, name, subject, artifactType=SIGNATURE)
    sbom = attach(client, name, subject, artifactType=SBOM)

    answer, manifests = referrers(client, name, subject["digest"], artifactType=SBOM)
    none, nothing = referrers(client, name, subject["digest"], artifactType="a/b")

    assert manifests == [sbom]
    assert answer.headers["oci-filters-applied"] == "artifactType"
    assert nothing == []
    assert none.headers["oci-filters-applied"] == "artifactType"


def test_a_plus_in_a_filter_comes_encoded(registry, client, name, subject):
    attach(client, name, subject, artifactType=SBOM)
    target = f"/v2/{name}/referrers/{subject['digest']}?artifactType="

    answer = send(
        registry.server,
        "GET",
        target + SBOM.replace("+", "%2B").replace("/", "%2F"),
        credential_of(registry, client, name),
    )

    assert len(json.loads(answer.body)["manifests"]) == 1


def test_several_filters_leave_the_list_whole_and_claim_nothing(client, name, subject):
    expected = [attach(client, name, subject, artifactType=kind) for kind in (SBOM, SIGNATURE)]

    answer, manifests = referrers(client, name, subject["digest"], artifactType=[SBOM, SIGNATURE])

    assert manifests == by_digest(expected)
    assert "oci-filters-applied" not in answer.headers


def test_pages_linked_together_are_the_whole_list(client, name, subject):
    expected = [
        attach(client, name, subject, artifactType=SBOM, annotations={"n": str(number)})
        for number in range(5)
    ]
    attach(client, name, subject, artifactType=SIGNATURE)

    seen = []
    target = f"/v2/{name}/referrers/{subject['digest']}?n=2&artifactType=" + SBOM.replace(
        "+", "%2B"
    )
    while target:
        answer = client.request("GET", target)
        assert answer.headers["oci-filters-applied"] == "artifactType"
        assert len(answer.json()["manifests"]) <= 2
        seen += answer.json()["manifests"]
        target = next_of(answer)

    assert seen == by_digest(expected)


def test_a_page_stays_small_enough_for_every_client(client, name, subject):
    """containerd reads about 4 MiB."""
    weight = {f"a{number}": secrets.token_hex(60_000) for number in range(8)}
    for number in range(6):
        attach(client, name, subject, annotations=weight | {"number": str(number)})

    first, manifests = referrers(client, name, subject["digest"])
    rest = client.request("GET", next_of(first)).json()["manifests"]

    assert len(first.content) < 4 * 1024 * 1024
    assert len({entry["digest"] for entry in manifests + rest}) == 6


def test_a_malformed_digest_is_refused(client, name, subject):
    for digest in ("sha256:abc", "v1", "sha256-" + "a" * 64, "md5:" + "a" * 32):
        answer = client.request("GET", f"/v2/{name}/referrers/{digest}")

        assert answer.status_code == 400, digest
        assert code_of(answer) == "DIGEST_INVALID"


def test_referrers_that_came_before_their_subject_are_listed(client, name):
    image = client.make_image(name)
    body = json.dumps(image).encode()
    early = attach(client, name, child(digest_of(body), len(body)), artifactType=SBOM)

    client.push_manifest(name, "v1", body)

    assert referrers(client, name, digest_of(body))[1] == [early]


def test_a_deleted_referrer_is_listed_no_more(client, name, subject):
    gone = attach(client, name, subject, artifactType=SBOM)
    kept = attach(client, name, subject, artifactType=SIGNATURE)

    deleted = client.request("DELETE", f"/v2/{name}/manifests/{gone['digest']}")

    assert deleted.status_code == 202
    assert referrers(client, name, subject["digest"])[1] == [kept]


def test_referrers_outlive_their_subject_in_the_list(client, name, subject):
    kept = attach(client, name, subject, artifactType=SBOM)

    client.request("DELETE", f"/v2/{name}/manifests/{subject['digest']}")

    assert referrers(client, name, subject["digest"])[1] == [kept]


def test_another_repository_has_none_of_them(client, name, subject):
    attach(client, name, subject, artifactType=SBOM)
    client.push_image(f"{name}-other")

    assert referrers(client, f"{name}-other", subject["digest"])[1] == []


def test_what_a_fallback_tag_lists_are_no_referrers(client, name, subject):
    """Clients write that tag for registries without this list; here it is a tag like others."""
    listed = attach(client, name, subject, artifactType=SBOM)
    image = client.make_image(name)
    other = client.push_manifest(name, digest_of(json.dumps(image).encode()), image)
    tag = subject["digest"].replace(":", "-")

    answer = put(client, name, tag, index([listed, child(other, 1)]), OCI_INDEX)

    assert answer.status_code == 201
    assert referrers(client, name, subject["digest"])[1] == [listed]
