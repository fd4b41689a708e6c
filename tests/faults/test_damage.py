"""Damaged objects as clients meet them: no wrong body is ever served whole, and a push heals."""

import secrets

import pytest

from tests.protocol.registry import Registry
from tests.support.damage import DAMAGES, flip, swap, touch
from tests.support.postgres import DATABASES, new_database
from tests.support.server import OCI_MANIFEST, Client, running_server

SIZE = 300_000


@pytest.fixture(scope="module", params=DATABASES)
def registry(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    if request.param == "sqlite":
        with running_server(folder) as server:
            yield Registry(server, "")
        return
    with (
        new_database(request.getfixturevalue("postgres_server")) as url,
        running_server(folder, database_url=url) as server,
    ):
        yield Registry(server, "")


@pytest.fixture
def client(registry):
    client = registry.client(registry.server.token)
    yield client
    client.close()


@pytest.fixture
def puller(registry):
    client = Client(registry.server, token=registry.server.make_token("--kind", "pull"))
    yield client
    client.close()


def object_of(registry, digest):
    ((key,),) = registry.rows("SELECT storage_key FROM blobs WHERE digest = :digest", digest=digest)
    return registry.server.data / "blobs" / str(key)[:2] / str(key)


def image_of(digest, size):
    descriptor = {"mediaType": "application/x", "digest": digest, "size": size}
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor,
        "layers": [],
    }


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_served_to_nobody_and_the_next_push_heals(registry, client, puller, name, how):
    content = secrets.token_bytes(SIZE)
    digest = client.push_blob(name, content)
    path = f"/v2/{name}/blobs/{digest}"
    assert puller.request("GET", path).content == content
    DAMAGES[how](object_of(registry, digest))

    for headers in ({}, {"range": "bytes=0-99"}, {"range": f"bytes={SIZE - 100}-"}):
        got = puller.request("GET", path, headers=headers)
        assert got.status_code == 503, got.status_code
        assert got.json()["errors"][0]["code"] == "UNAVAILABLE"
    assert puller.request("HEAD", path).status_code == 503

    # A pusher hears that it has to send it.
    assert client.request("HEAD", path).status_code == 404
    refused = client.request(
        "PUT",
        f"/v2/{name}/manifests/v1",
        json=image_of(digest, SIZE),
        headers={"content-type": OCI_MANIFEST},
    )
    assert refused.status_code == 400
    error = refused.json()["errors"][0]
    assert error["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert error["detail"]["missing"] == [digest]
    mounted = client.request(
        "POST", f"/v2/{name}-2/blobs/uploads/", params={"mount": digest, "from": name}
    )
    assert mounted.status_code == 202

    assert client.push_blob(name, content) == digest

    assert puller.request("GET", path).content == content
    assert client.request("HEAD", path).status_code == 200
    client.push_manifest(name, "v1", image_of(digest, SIZE))


def test_two_objects_in_each_others_place_are_not_served(registry, client, name):
    contents = [secrets.token_bytes(SIZE) for _ in range(2)]
    digests = [client.push_blob(name, content) for content in contents]
    swap(*(object_of(registry, digest) for digest in digests))

    for digest in digests:
        assert client.request("GET", f"/v2/{name}/blobs/{digest}").status_code == 503

    for digest, content in zip(digests, contents, strict=True):
        client.push_blob(name, content)
        assert client.request("GET", f"/v2/{name}/blobs/{digest}").content == content


def test_a_push_heals_what_nobody_has_found_damaged_yet(registry, client, name):
    content = secrets.token_bytes(SIZE)
    digest = client.push_blob(name, content)
    flip(object_of(registry, digest))

    client.push_blob(f"{name}-2", content)

    for where in (name, f"{name}-2"):
        assert client.request("GET", f"/v2/{where}/blobs/{digest}").content == content


def test_an_object_from_a_backup_is_served_as_before(registry, client, name):
    content = secrets.token_bytes(SIZE)
    digest = client.push_blob(name, content)
    touch(object_of(registry, digest))

    assert client.request("GET", f"/v2/{name}/blobs/{digest}").content == content
    assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 200


def test_a_finished_upload_of_a_blob_that_was_damaged_since_is_begun_anew(registry, client, name):
    content = secrets.token_bytes(SIZE)
    begun = client.request("POST", f"/v2/{name}/blobs/uploads/")
    place = begun.headers["location"]
    digest = client.push_blob(f"{name}-2", content)  # only to know it
    params = f"{'&' if '?' in place else '?'}digest={digest}"
    assert client.request("PUT", place + params, content=content).status_code == 201
    flip(object_of(registry, digest))
    assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 404

    again = client.request("PUT", place + params)

    assert again.status_code == 404
    assert again.json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN"


def test_a_damaged_manifest_is_served_to_nobody_and_the_next_push_heals(
    registry, client, puller, name
):
    digest = client.push_blob(name, secrets.token_bytes(SIZE))
    manifest = client.push_manifest(name, "v1", image_of(digest, SIZE))
    body = client.request("GET", f"/v2/{name}/manifests/v1").content
    registry.change(
        "UPDATE manifests SET body = :body WHERE digest = :digest",
        body=body.replace(b"application/x", b"application/y"),
        digest=manifest,
    )

    for reference in ("v1", manifest):
        path = f"/v2/{name}/manifests/{reference}"
        assert puller.request("GET", path).status_code == 503
        assert puller.request("HEAD", path).status_code == 503
        assert client.request("HEAD", path).status_code == 404

    assert client.push_manifest(name, "v1", body) == manifest
    assert puller.request("GET", f"/v2/{name}/manifests/v1").content == body
