"""What real clients send, in their order: each step must answer as that client needs it.

The clients themselves are tried elsewhere; this is for those that a machine may not have.
"""

import json
import secrets

import httpx
import pytest

from tests.protocol.documents import DOCKER_MANIFEST, artifact, child, descriptor, index, put
from tests.protocol.registry import credential_of
from tests.protocol.wire import send
from tests.support.server import OCI_INDEX, OCI_MANIFEST, Client, basic, digest_of

HEAD_NEEDS = {"content-type", "content-length", "docker-content-digest"}


@pytest.fixture
def layer():
    return secrets.token_bytes(5_000)


def steps(client, name):
    """Requests to one repository, each with the status it must have."""

    def step(method, path, status, **options):
        target = path if path.startswith("/") else f"/v2/{name}/{path}"
        answer = client.request(method, target, **options)
        assert answer.status_code == status, (method, target, answer.text)
        return answer

    return step


def test_docker_logs_in(closed):
    challenge = httpx.get(f"{closed.url}/v2/")
    token = httpx.get(
        f"{closed.url}/v2/token",
        params={
            "account": "x-token",
            "client_id": "docker",
            "offline_token": "true",
            "service": closed.host,
        },
        headers=basic(closed.server.token),
    ).json()
    confirmed = httpx.get(
        f"{closed.url}/v2/", headers={"authorization": f"Bearer {token['token']}"}
    )

    assert (challenge.status_code, confirmed.status_code) == (401, 200)
    assert token["refresh_token"]


def test_helm_and_containerd_log_in_by_form_first(closed, name):
    form = {
        "grant_type": "password",
        "service": closed.host,
        "client_id": "containerd-client",
        "username": "x-token",
        "password": closed.server.token,
        "scope": f"repository:{name}:pull,push",
    }

    token = httpx.post(f"{closed.url}/v2/token", data=form).json()["access_token"]

    answer = httpx.post(
        f"{closed.url}/v2/{name}/blobs/uploads/", headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 202


def test_docker_pushes(registry, client, name, layer):
    step = steps(client, name)
    digest = digest_of(layer)
    step("HEAD", f"blobs/{digest}", 404)
    begun = step("POST", "blobs/uploads/", 202)
    credential = credential_of(registry, client, name)
    patched = send(
        registry.server,
        "PATCH",
        begun.headers["location"],
        credential,
        chunks=[layer[:99], layer[99:]],
    )
    first, last = map(int, patched.headers["range"].split("-"))
    step("PUT", patched.headers["location"], 201, params={"digest": digest})
    there = step("HEAD", f"blobs/{digest}", 200)
    config = client.push_blob(name, b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 2,
            "digest": config,
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": 5_000,
                "digest": digest,
            }
        ],
    }
    pushed = put(client, name, "v1", manifest, DOCKER_MANIFEST)

    assert (first, last) == (0, 4_999)
    assert patched.headers["docker-upload-uuid"]
    assert there.headers["content-length"] == "5000"
    assert pushed.status_code == 201
    assert pushed.headers["docker-content-digest"] == digest_of(json.dumps(manifest).encode())


def test_docker_pulls(client, name):
    pushed = client.push_image(name, "v1")
    step = steps(client, name)

    head = step("HEAD", "manifests/v1", 200)
    manifest = step("GET", f"manifests/{head.headers['docker-content-digest']}", 200).json()
    step("GET", f"blobs/{manifest['config']['digest']}", 200)
    path = f"blobs/{manifest['layers'][0]['digest']}"
    whole = step("GET", path, 200)
    resumed = step("GET", path, 206, headers={"range": "bytes=400-"})

    assert head.headers.keys() >= HEAD_NEEDS
    assert head.headers["docker-content-digest"] == pushed
    assert resumed.headers["content-range"] == "bytes 400-999/1000"
    assert resumed.content == whole.content[400:]


def test_containerd_pushes_with_one_put(client, name, layer):
    step = steps(client, name)
    digest = digest_of(layer)
    accept = {"accept": "application/vnd.oci.image.layer.v1.tar+gzip, */*"}
    params = {"ns": "registry.example.com"}

    step("HEAD", f"blobs/{digest}", 404, headers=accept, params=params)
    location = step("POST", "blobs/uploads/", 202, params=params).headers["location"]
    step("PUT", location, 201, params={"digest": digest, **params}, content=layer)
    step("HEAD", f"blobs/{digest}", 200, headers=accept, params=params)
    image = client.make_image(name)
    body = json.dumps(image).encode()
    step("HEAD", f"manifests/{digest_of(body)}", 404, params=params)
    put(client, name, digest_of(body), body, OCI_MANIFEST)
    head = step("HEAD", f"manifests/{digest_of(body)}", 200, params=params)

    assert head.headers.keys() >= HEAD_NEEDS


def test_containerd_pulls_layers_open_ended_and_hangs_up_early(registry, client, name, layer):
    digest = client.push_blob(name, layer * 400)
    credential = credential_of(registry, client, name)

    for start in (0, 700_000, 1_400_000):
        answer = httpx.stream(
            "GET",
            f"{registry.url}/v2/{name}/blobs/{digest}",
            headers={**credential, "range": f"bytes={start}-", "accept-encoding": "zstd,gzip"},
        )
        with answer as stream:
            assert stream.status_code == 206
            assert "content-encoding" not in stream.headers
            next(stream.iter_bytes(1_000))
    assert client.request("HEAD", f"/v2/{name}/blobs/{digest}").status_code == 200


def test_buildkit_pushes_an_image_with_its_attestation(client, name):
    image = client.make_image(name)
    statement = artifact(client, name)
    statement["layers"] = [descriptor(client, name, b"{1}", "application/vnd.in-toto+json")]
    entries = []
    for document in (image, statement):
        body = json.dumps(document).encode()
        assert put(client, name, digest_of(body), body, OCI_MANIFEST).status_code == 201
        entries.append(child(digest_of(body), len(body)))
    entries[1] |= {
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": entries[0]["digest"],
        },
    }

    answer = put(client, name, "v1", index(entries), OCI_INDEX)

    assert answer.status_code == 201


@pytest.mark.parametrize("form", ["image", "index", "docker list"])
def test_buildkit_pushes_its_cache(client, name, form):
    layers = [
        descriptor(
            client, name, secrets.token_bytes(50), "application/vnd.oci.image.layer.v1.tar+gzip"
        )
        for _ in range(3)
    ]
    config = descriptor(client, name, b'{"records":1}', "application/vnd.buildkit.cacheconfig.v0")
    document, media_type = {
        "image": (artifact(client, name, config=config, layers=layers), OCI_MANIFEST),
        "index": (index([*layers, config]), OCI_INDEX),
        "docker list": (
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
                "manifests": [*layers, config],
            },
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
    }[form]

    assert put(client, name, "cache", document, media_type).status_code == 201

    pulled = client.request("GET", f"/v2/{name}/manifests/cache")
    assert pulled.json() == document
    for layer in layers:
        assert client.request("DELETE", f"/v2/{name}/blobs/{layer['digest']}").status_code == 405


def test_podman_pushes_mounts_and_cleans_up(client, name, layer):
    step = steps(client, name)
    digest = digest_of(layer)
    step("HEAD", f"blobs/{digest}", 404)
    tried = step("POST", "blobs/uploads/", 202, params={"mount": digest, "from": f"{name}-absent"})
    step("DELETE", tried.headers["location"], 204)
    begun = step("POST", "blobs/uploads/", 202)
    patched = step("PATCH", begun.headers["location"], 202, content=layer)
    step("PUT", patched.headers["location"], 201, params={"digest": digest})
    head = step("HEAD", f"blobs/{digest}", 200)

    assert head.headers["content-length"] == "5000"


def test_skopeo_deletes_with_the_scope_of_everything(closed, owner, name):
    owner.push_image(name, "v1")
    bearer = closed.bearer(owner.token, f"repository:{name}:*")
    manifest = send(closed.server, "GET", f"/v2/{name}/manifests/v1", bearer)

    answer = send(
        closed.server,
        "DELETE",
        f"/v2/{name}/manifests/{manifest.headers['docker-content-digest']}",
        bearer,
    )

    assert answer.status == 202


def test_crane_pushes_and_kaniko_checks_that_it_may(client, name, layer):
    step = steps(client, name)
    json_type = {"content-type": "application/json"}
    check = step("POST", "blobs/uploads/", 202, headers=json_type)
    step("DELETE", check.headers["location"], 204)
    begun = step(
        "POST",
        "blobs/uploads/",
        202,
        headers=json_type,
        params={"mount": digest_of(layer), "from": f"{name}-x", "origin": "example.com"},
    )
    patched = step("PATCH", begun.headers["location"], 202, content=layer)
    step("PUT", patched.headers["location"], 201, params={"digest": digest_of(layer)})
    step("GET", "manifests/cache-miss", 404)


def test_cosign_signs_by_tag_and_by_referrer(client, name):
    image = client.make_image(name)
    digest = client.push_manifest(name, "v1", image)
    bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
    step = steps(client, name)

    for suffix in (".sig", ".att", ".sbom"):
        tag = digest.replace(":", "-") + suffix
        step("GET", f"manifests/{tag}", 404)
        assert put(client, name, tag, artifact(client, name), OCI_MANIFEST).status_code == 201
    signature = artifact(
        client,
        name,
        artifactType=bundle,
        layers=[descriptor(client, name, b"{2}", bundle)],
        subject=child(digest, len(json.dumps(image))),
    )
    body = json.dumps(signature).encode()
    pushed = put(client, name, digest_of(body), body, OCI_MANIFEST)
    listed = step("GET", f"referrers/{digest}", 200, params={"artifactType": bundle}).json()

    assert pushed.headers["oci-subject"] == digest
    assert [entry["digest"] for entry in listed["manifests"]] == [digest_of(body)]


def test_oras_probes_pushes_and_deletes(client, name, layer):
    step = steps(client, name)
    probe = step("GET", f"referrers/sha256:{'0' * 64}", 200)
    location = step("POST", "blobs/uploads/", 202).headers["location"]
    step("PUT", location, 201, params={"digest": digest_of(layer)}, content=layer)
    blob = step("GET", f"blobs/{digest_of(layer)}", 200)
    body = json.dumps(client.make_image(name)).encode()
    for reference in (digest_of(body), "v1"):
        pushed = put(client, name, reference, body, OCI_MANIFEST)
        assert pushed.status_code == 201
        assert pushed.headers["docker-content-digest"] == digest_of(body)
    head = step("HEAD", "manifests/v1", 200)
    deleted = step("DELETE", f"manifests/{digest_of(body)}", 202)

    assert probe.headers["content-type"] == OCI_INDEX
    assert blob.headers["accept-ranges"] == "bytes"
    assert head.headers.keys() >= HEAD_NEEDS
    assert deleted.headers.get("docker-content-digest", digest_of(body)) == digest_of(body)


def test_regclient_resumes_and_mounts_from_anywhere(registry, client, name, layer):
    step = steps(client, name)
    step("POST", "blobs/uploads/", 202, params={"mount": digest_of(layer)})
    location = step("POST", "blobs/uploads/", 202).headers["location"]
    step("PATCH", location, 202, content=layer[:2_000], headers={"content-range": "0-1999"})
    lost = step("PATCH", location, 416, content=layer[:2_000], headers={"content-range": "0-1999"})
    start = int(lost.headers["range"].partition("-")[2]) + 1
    step(
        "PATCH",
        lost.headers["location"],
        202,
        content=layer[start:],
        headers={"content-range": f"{start}-4999"},
    )
    step("PUT", location, 201, params={"digest": digest_of(layer)})
    part = step("GET", f"blobs/{digest_of(layer)}", 206, headers={"range": "bytes=10-19"})

    assert part.headers["content-range"] == "bytes 10-19/5000"


def test_helm_lists_every_version(client, name):
    chart = "application/vnd.cncf.helm.config.v1+json"
    config = descriptor(client, name, b'{"name":"chart"}', chart)
    for version in ("1.0.0", "1.0.0_build.5", "0.9.0-rc.1"):
        document = artifact(client, name, config=config)
        assert put(client, name, version, document, OCI_MANIFEST).status_code == 201

    tags = client.request("GET", f"/v2/{name}/tags/list").json()["tags"]

    assert tags == ["0.9.0-rc.1", "1.0.0", "1.0.0_build.5"]


def test_a_node_tries_every_credential_it_has(closed, owner, name, slug):
    """Kubernetes hands over one credential after the other until one is good."""
    owner.push_image(name, "v1")
    closed.new_organisation(slug)
    wrong = [closed.new_token("org", slug), "nonsense"]

    statuses = []
    for token in (*wrong, owner.token):
        caller = Client(closed.server, token=token)
        statuses.append(caller.request("HEAD", f"/v2/{name}/manifests/v1").status_code)
        caller.close()

    assert statuses == [404, 401, 200]


def test_a_mirror_answers_quickly_for_what_it_has_not(client):
    step = steps(client, "library/busybox")

    for reference in ("latest", digest_of(b"absent")):
        step("HEAD", f"manifests/{reference}", 404, params={"ns": "docker.io"})
        step("GET", f"manifests/{reference}", 404, params={"ns": "docker.io"})
