"""Accept: every way to write it is read, and none changes what is answered (end-3)."""

from tests.protocol.registry import credential_of
from tests.protocol.wire import send
from tests.support.server import OCI_INDEX, OCI_MANIFEST

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

# As curl, containerd, Docker, podman, go-containerregistry and older tools write it.
FORMS = {
    "none": [],
    "anything": ["*/*"],
    "list": [f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}, */*"],
    "lines": [SCHEMA_1, DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_LIST, OCI_INDEX],
    "six lines": [OCI_MANIFEST, DOCKER_MANIFEST, SCHEMA_1, DOCKER_LIST, OCI_INDEX, "*/*"],
    "one comma list": [f"{SCHEMA_1},{DOCKER_MANIFEST},{DOCKER_LIST},{OCI_INDEX},{OCI_MANIFEST}"],
    "preferences": [f"{DOCKER_MANIFEST};q=1, {OCI_MANIFEST};q=0.1"],
    "only Docker": [DOCKER_MANIFEST],
    "only schema 1": [SCHEMA_1],
    "another kind": ["text/html"],
    "broken": ["/;;,q"],
}


def test_the_stored_type_is_answered_whatever_accept_says(registry, client, name):
    digest = client.push_image(name, "v1")
    credential = list(credential_of(registry, client, name).items())

    for form, lines in FORMS.items():
        headers = [*credential, *(("Accept", line) for line in lines)]
        answer = send(registry.server, "HEAD", f"/v2/{name}/manifests/v1", headers)

        assert answer.status == 200, form
        assert answer.headers.get_all("content-type") == [OCI_MANIFEST]
        assert answer.headers["docker-content-digest"] == digest


def test_an_index_is_not_hidden_from_who_accepts_no_index(registry, client, name):
    child = client.push_image(name)
    size = len(client.request("GET", f"/v2/{name}/manifests/{child}").content)
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": size}],
    }
    digest = client.push_manifest(name, "multi", index)

    answer = send(
        registry.server,
        "GET",
        f"/v2/{name}/manifests/multi",
        {**credential_of(registry, client, name), "Accept": DOCKER_MANIFEST},
    )

    assert answer.status == 200
    assert answer.headers["content-type"] == OCI_INDEX
    assert answer.headers["docker-content-digest"] == digest


def test_referrers_and_tags_ignore_accept_too(client, name):
    digest = client.push_image(name, "v1")

    for accept in ("application/json", OCI_MANIFEST, "text/plain"):
        headers = {"accept": accept}
        referrers = client.request("GET", f"/v2/{name}/referrers/{digest}", headers=headers)
        tags = client.request("GET", f"/v2/{name}/tags/list", headers=headers)

        assert referrers.status_code == 200
        assert referrers.headers["content-type"] == OCI_INDEX
        assert tags.status_code == 200
