"""Mounting a blob of another repository (end-11): only for who may pull it, and never a 403."""

import secrets

import pytest

from tests.protocol.registry import credential_of
from tests.protocol.wire import send
from tests.support.server import Client, digest_of


@pytest.fixture
def source(client, name):
    """A repository with a blob, and the blob's digest."""
    return f"{name}-source", client.push_blob(f"{name}-source", secrets.token_bytes(1_000))


def mount(client, name, **params):
    return client.request("POST", f"/v2/{name}/blobs/uploads/", params=params)


def links(registry, name, digest):
    return registry.rows(
        """
        SELECT r.path
          FROM blob_links AS l
          JOIN repositories AS r ON r.id = l.repository_id
         WHERE r.path = :path
           AND l.digest = :digest
        """,
        path=name,
        digest=digest,
    )


def test_a_blob_is_mounted_without_being_sent(registry, client, name, source):
    repository, digest = source
    credential = (
        registry.bearer(
            client.token, f"repository:{name}:pull,push", f"repository:{repository}:pull"
        )
        if client.mode == "bearer"
        else credential_of(registry, client, name)
    )

    answer = send(
        registry.server,
        "POST",
        f"/v2/{name}/blobs/uploads/?mount={digest}&from={repository}&origin=x&ns=docker.io",
        credential,
        b"",
    )

    assert answer.status == 201
    assert answer.headers["location"] == f"/v2/{name}/blobs/{digest}"
    assert answer.headers["docker-content-digest"] == digest
    assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 200


def test_the_challenge_of_a_mount_names_both_repositories(closed, name):
    digest = digest_of(b"x")

    answer = send(
        closed.server,
        "POST",
        f"/v2/{name}/blobs/uploads/?mount={digest}&from={name}-source",
        {},
        b"",
    )

    assert answer.status == 401
    scope = f'scope="repository:{name}:pull,push repository:{name}-source:pull"'
    assert scope in answer.headers["www-authenticate"]


def test_a_mount_without_a_source_looks_around_in_the_organisation(client, name, source):
    _, digest = source

    answer = mount(client, name, mount=digest)

    if client.mode == "bearer":
        # The bearer token covers this repository alone, so others must not be looked at.
        assert answer.status_code == 202
    else:
        assert answer.status_code == 201
        assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 200


def test_what_cannot_be_mounted_becomes_an_upload(client, name, source):
    repository, digest = source

    for params in (
        {"mount": digest_of(b"nowhere"), "from": repository},
        {"mount": digest_of(b"nowhere")},
        {"mount": digest, "from": f"{name}-absent"},
        {"mount": digest, "from": "NOT/A/NAME"},
        {"mount": digest, "from": name},
        {"mount": digest_of(b"nowhere"), "from": ""},
    ):
        answer = mount(client, name, **params)

        assert answer.status_code == 202, params
        assert answer.headers["docker-upload-uuid"]
        cancelled = client.request("DELETE", answer.headers["location"])
        assert cancelled.status_code == 204


def test_a_session_of_a_failed_mount_takes_the_blob(client, name):
    begun = mount(client, name, mount=digest_of(b"content"), **{"from": f"{name}-absent"})

    done = client.request(
        "PUT",
        begun.headers["location"],
        params={"digest": digest_of(b"content")},
        content=b"content",
    )

    assert done.status_code == 201


def test_a_mount_of_a_malformed_digest_is_refused(client, name):
    answer = mount(client, name, mount="sha256:short", **{"from": name})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"


def test_a_mount_from_the_same_repository_finds_what_is_there(client, name):
    digest = client.push_blob(name, b"content")

    assert mount(client, name, mount=digest, **{"from": name}).status_code == 201


def test_a_deleted_blob_cannot_be_mounted(client, name, source):
    repository, digest = source
    client.request("DELETE", f"/v2/{repository}/blobs/{digest}")

    assert mount(client, name, mount=digest, **{"from": repository}).status_code == 202


def test_a_blob_out_of_reach_is_not_mounted_and_looks_absent(closed, owner, name, slug):
    """CVE-2024-39897: deduplication must neither grant nor reveal anything."""
    closed.new_organisation(slug)
    secret = owner.push_blob(f"{name}-source", secrets.token_bytes(1_000))
    token = closed.new_token("org", slug)

    for mode in ("basic", "bearer"):
        stranger = Client(closed.server, token=token, mode=mode)
        here = f"{slug}/{name}-{mode}"
        for digest in (secret, digest_of(b"absent")):
            for origin in (f"{name}-source", f"main/{name}-source", f"{name}-absent", None):
                params = {"from": origin} if origin else {}
                answer = mount(stranger, here, mount=digest, **params)

                assert answer.status_code == 202, (origin, answer.text)
                assert answer.headers["docker-upload-uuid"]
        assert stranger.request("HEAD", f"/v2/{here}/blobs/{secret}").status_code == 404
        assert links(closed, f"{name}-{mode}", secret) == []
        stranger.close()


def test_a_bearer_token_mounts_only_from_what_it_covers(closed, owner, name):
    digest = owner.push_blob(f"{name}-source", secrets.token_bytes(1_000))
    target = f"/v2/{name}/blobs/uploads/?mount={digest}&from={name}-source"
    narrow = closed.bearer(owner.token, f"repository:{name}:pull,push")
    wide = closed.bearer(
        owner.token, f"repository:{name}:pull,push", f"repository:{name}-source:pull"
    )

    assert send(closed.server, "POST", target, narrow, b"").status == 202
    assert send(closed.server, "POST", target, wide, b"").status == 201


def test_bytes_that_another_tenant_holds_must_still_be_sent(closed, owner, name, slug):
    """CVE-2026-35172: knowing a digest is not having its bytes."""
    content = secrets.token_bytes(1_000)
    digest = owner.push_blob(name, content)
    closed.new_organisation(slug)
    stranger = Client(closed.server, token=closed.new_token("org", slug))
    here = f"{slug}/{name}"
    path = f"/v2/{here}/blobs/uploads/"

    empty = stranger.request("POST", path, params={"digest": digest}, content=b"")
    short = stranger.request("POST", path, params={"digest": digest}, content=content[:-1])
    nothing = stranger.request("PUT", empty.headers["location"], params={"digest": digest})
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/json", "digest": digest, "size": 1_000},
        "layers": [],
    }
    claimed = stranger.request("PUT", f"/v2/{here}/manifests/v1", json=manifest)
    claimed_as_image = stranger.request(
        "PUT",
        f"/v2/{here}/manifests/v1",
        json=manifest,
        headers={"content-type": manifest["mediaType"]},
    )

    assert empty.status_code == 202
    assert short.status_code == nothing.status_code == 400
    assert claimed.status_code == claimed_as_image.status_code == 400
    assert claimed_as_image.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert stranger.request("HEAD", f"/v2/{here}/blobs/{digest}").status_code == 404
    assert stranger.push_blob(here, content) == digest
    stranger.close()
