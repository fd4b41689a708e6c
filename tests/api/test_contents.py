"""What repositories hold, as the management API shows it, and taking it out."""

import json
import secrets

import pytest

from tests.protocol.documents import DOCKER_MANIFEST, artifact, child, descriptor, index
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of

CONFIG = "application/vnd.oci.image.config.v1+json"


@pytest.fixture
def client(protocol, owner):
    return protocol(owner)


@pytest.fixture
def name(slug):
    return f"{slug}/app"


@pytest.fixture
def repository(owner, slug):
    """Its path in the API."""
    made = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})
    return f"/repositories/{made['id']}"


def walk(caller, path, limit, key, **params):
    pages, cursor = [], ""
    while cursor is not None:
        query = {"limit": limit, **params} | ({"cursor": cursor} if cursor else {})
        answer = caller.get(path, params=query)
        assert answer.status_code == 200, answer.text
        pages.append([item[key] for item in answer.json()["items"]])
        cursor = answer.json()["next"]
    return pages


def push_image(client, name, tag, config, media_type=CONFIG, **fields):
    """An image with this configuration, whatever it is; its manifest and the manifest's digest."""
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(client, name, content, media_type),
        "layers": [
            descriptor(client, name, secrets.token_bytes(n), "application/vnd.oci.image.layer.v1.tar")
            for n in (10, 20)
        ],
        **fields,
    }  # fmt: skip
    return document, client.push_manifest(name, tag, document)


def test_tags_are_listed_in_the_order_of_their_bytes(client, owner, name, repository):
    names = ["latest", "v1", "v1.0", "v10", "V2", "_x", "v2"]
    image = client.make_image(name)
    digest = {client.push_manifest(name, tag, image) for tag in names}.pop()

    assert walk(owner, f"{repository}/tags", 3, "name") == [
        ["V2", "_x", "latest"],
        ["v1", "v1.0", "v10"],
        ["v2"],
    ]
    assert walk(owner, f"{repository}/tags", 2, "name", prefix="v1") == [["v1", "v1.0"], ["v10"]]
    assert walk(owner, f"{repository}/tags", 2, "name", prefix="x") == [[]]
    assert owner.get(f"{repository}/tags", params={"prefix": "a/b"}).status_code == 422
    (shown,) = owner.items(f"{repository}/tags?prefix=latest")
    assert shown == {
        "name": "latest",
        "digest": digest,
        "media_type": OCI_MANIFEST,
        "size": len(json.dumps(image)),
        "pushed_at": shown["pushed_at"],
        "pulled_at": None,
        "expires_at": None,
    }
    assert owner.get(f"{repository}/tags/latest").json() == shown


def test_what_is_not_there_is_not_found(owner, repository):
    for path in ("tags/none", f"manifests/{digest_of(b'none')}"):
        assert owner.get(f"{repository}/{path}").status_code == 404
        assert owner.delete(f"{repository}/{path}").status_code == 404
    for path in ("tags/-x", "manifests/sha256:abc", "manifests/md5:0"):
        assert owner.get(f"{repository}/{path}").status_code == 422


def test_manifests_are_listed_by_digest_tagged_or_not(client, owner, name, repository):
    digests = sorted(client.push_image(name, f"v{n}") for n in range(5))
    owner.delete(f"{repository}/tags/v0")

    assert walk(owner, f"{repository}/manifests", 2, "digest") == [
        digests[:2],
        digests[2:4],
        digests[4:],
    ]


def test_an_image_is_shown_with_its_configuration_and_layers(client, owner, name, repository):
    config = {
        "created": "2026-11-21T10:00:00Z",
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "config": {
            "Entrypoint": ["/app"],
            "Cmd": ["serve"],
            "Env": ["PATH=/bin"],
            "Labels": {"a": "ü"},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    document, digest = push_image(client, name, "v1", config, annotations={"org.x": "y"})
    client.push_manifest(name, "v2", document)

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    layers = [
        {"digest": layer["digest"], "size": layer["size"], "media_type": layer["mediaType"]}
        for layer in document["layers"]
    ]
    assert shown == {
        "digest": digest,
        "media_type": OCI_MANIFEST,
        "artifact_type": CONFIG,
        "subject": None,
        "size": len(json.dumps(document)),
        "pushed_at": shown["pushed_at"],
        "pulled_at": None,
        "tags": ["v1", "v2"],
        "platforms": [{"os": "linux", "architecture": "arm64", "variant": "v8", "digest": digest}],
        "config": config,
        "layers": layers,
        "annotations": {"org.x": "y"},
    }


def test_an_index_is_shown_with_the_platforms_of_its_children(client, owner, name, repository):
    parts = []
    for platform in (
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"},
        {"os": "windows"},
        "nonsense",
    ):
        document, digest = push_image(client, name, "part", {})
        parts.append(child(digest, len(json.dumps(document)), platform=platform))
    parts.append(child(parts[0]["digest"], parts[0]["size"]))
    digest = client.push_manifest(name, "v1", index(parts), OCI_INDEX)

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    assert shown["platforms"] == [
        {"os": "linux", "architecture": "amd64", "variant": None, "digest": parts[0]["digest"]},
        {"os": "linux", "architecture": "arm", "variant": "v7", "digest": parts[1]["digest"]},
    ]
    assert (shown["config"], shown["layers"]) == (None, [])
    refused = owner.delete(f"{repository}/manifests/{parts[0]['digest']}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:entrepot:problem:in-use")


def test_an_artifact_is_shown_with_its_subject_and_type(client, owner, name, repository):
    document, subject = push_image(client, name, "v1", {})
    reference = {"mediaType": OCI_MANIFEST, "digest": subject, "size": len(json.dumps(document))}
    made = artifact(client, name, subject=reference, artifactType="a/sbom", annotations={"k": "v"})
    digest = digest_of(json.dumps(made).encode())
    client.push_manifest(name, digest, made)

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    assert (shown["subject"], shown["artifact_type"]) == (subject, "a/sbom")
    assert (shown["annotations"], shown["tags"]) == ({"k": "v"}, [])
    assert (shown["config"], shown["platforms"]) == (None, [])


@pytest.mark.parametrize(
    "config",
    [
        b"no JSON at all",
        b"[1, 2]",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"os": "\\ud800"}',
        b"\xff\xfe",
        b"",
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[" * 100_000,
        json.dumps({"os": "linux", "a": "x" * (1 << 20)}).encode(),
    ],
    ids=range(11),
)
def test_a_configuration_that_cannot_be_shown_is_left_out(client, owner, name, repository, config):
    _, digest = push_image(client, name, "v1", config)

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    assert (shown["config"], shown["platforms"]) == (None, [])
    assert len(shown["layers"]) == 2


def test_a_configuration_of_odd_types_is_shown_without_a_platform(client, owner, name, repository):
    config = {"os": 7, "architecture": None, "n": 123456789012345678901234567890}
    _, digest = push_image(client, name, "v1", config)

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    assert shown["config"]["os"] == 7
    assert shown["platforms"] == []


def test_a_lost_configuration_leaves_the_rest(registry, client, owner, name, repository):
    document, digest = push_image(client, name, "v1", {"os": "linux", "id": name})
    ((key,),) = registry.rows(
        "SELECT storage_key FROM blobs WHERE digest = :digest", digest=document["config"]["digest"]
    )
    (path,) = registry.server.data.rglob(key)
    path.unlink()

    shown = owner.get(f"{repository}/manifests/{digest}")

    assert shown.status_code == 200
    assert shown.json()["config"] is None


def test_a_docker_image_is_shown_like_any_other(client, owner, name, repository):
    config = {"os": "linux", "architecture": "amd64"}
    kind = "application/vnd.docker.container.image.v1+json"
    _, digest = push_image(client, name, "v1", config, kind, mediaType=DOCKER_MANIFEST)

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    assert shown["media_type"] == DOCKER_MANIFEST
    assert shown["platforms"][0]["architecture"] == "amd64"


def test_at_most_a_hundred_tags_of_a_manifest_are_shown(client, owner, name, repository):
    image = client.make_image(name)
    digest = client.push_manifest(name, "v0", image)
    for start in range(0, 120, 40):
        tags = [("tag", f"v{n}") for n in range(start, start + 40)]
        client.request(
            "PUT",
            f"/v2/{name}/manifests/{digest}",
            params=tags,
            content=json.dumps(image),
            headers={"content-type": OCI_MANIFEST},
        )

    shown = owner.get(f"{repository}/manifests/{digest}").json()

    assert len(shown["tags"]) == 100
    assert shown["tags"] == sorted(shown["tags"])


def test_roles_decide_who_may_take_what_out(people, slug, client, name, repository):
    digest = client.push_image(name, "v1")
    paths = (f"{repository}/tags/v1", f"{repository}/manifests/{digest}")
    can = {"reader": (403, 403), "member": (204, 403), "admin": (404, 204)}

    for role, expected in can.items():
        somebody = people.member(slug, role)
        assert [somebody.get(path).status_code for path in paths[1:]] == [200]
        assert tuple(somebody.delete(path).status_code for path in paths) == expected, role
    actions = [event["action"] for event in people.audit(slug)]
    done = [action for action in actions if action.endswith(".deleted")]
    assert done == ["manifest.deleted", "tag.deleted"]


def test_whoever_may_not_pull_sees_nothing(people, registry, slug, client, name, repository):
    digest = client.push_image(name, "v1")
    strangers = [
        people.user(),
        people.user(is_administrator=True),
        people.nobody,
        people.caller(registry.new_token("org", slug, patterns=("other",))),
    ]

    for stranger in strangers:
        for path in ("/tags", "/tags/v1", "/manifests", f"/manifests/{digest}"):
            there = stranger.get(f"{repository}{path}")
            not_there = stranger.get(f"/repositories/0000000000000{path}")
            assert there.status_code == not_there.status_code
            assert there.status_code in {401, 404}
            assert there.json()["detail"] == not_there.json()["detail"]
        for path in ("/tags/v1", f"/manifests/{digest}"):
            assert stranger.delete(f"{repository}{path}").status_code in {401, 404}


def test_the_log_names_the_token_of_a_push_as_the_api_does(registry, owner, client, name):
    token = owner.get("/whoami").json()["token"]["id"]

    client.push_image(name, "v1")

    lines = [
        json.loads(line) for line in registry.server.log.read_text().splitlines() if name in line
    ]
    assert {line["token"] for line in lines if line["event"] == "manifest.pushed"} == {token}


def test_a_projects_token_browses_its_own_builds(people, registry, slug, owner, protocol):
    project = owner.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    token = registry.new_token("project", slug, project=project)
    digest = protocol(token).push_image(project, "build-1")
    (builds,) = owner.items(f"/organisations/{slug}/repositories")
    builder, path = people.caller(token), f"/repositories/{builds['id']}"

    assert [tag["name"] for tag in builder.items(f"{path}/tags")] == ["build-1"]
    assert builder.get(f"{path}/manifests/{digest}").status_code == 200
    assert builder.delete(f"{path}/manifests/{digest}").status_code == 403
    assert builder.delete(f"{path}/tags/build-1").status_code == 204
    assert builder.patch(path, {"is_public": True}).status_code == 403
