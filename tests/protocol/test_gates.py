"""What is read-only, immutable or protected stays so by every path, a tag named latest too."""

import json
import secrets

import httpx
import pytest

from entrepot.model.ids import to_text
from tests.protocol.documents import code_of
from tests.support.server import OCI_MANIFEST, basic, digest_of

TAGS = ("v1", "latest")
_READ_ONLY = "INSERT INTO installation (name, value) VALUES ('read_only', '1')"
_WRITABLE = "DELETE FROM installation WHERE name = 'read_only'"


class Scene:
    """A repository with an image under both tags, and everything ready for one more change."""

    def __init__(self, registry, slug):
        self.registry, self.slug, self.name = registry, slug, f"{slug}/app"
        registry.new_organisation(slug)
        token = registry.new_token("org", slug, may_manage=True)
        self.client = registry.client(token)
        self.api = httpx.Client(
            base_url=f"{registry.url}/api/v1",
            headers=basic(token),
            timeout=60,
            verify=registry.server.trust,
        )
        image = self.client.make_image(self.name)
        self.body = json.dumps(image).encode()
        self.digest = digest_of(self.body)
        for tag in TAGS:
            self.client.push_manifest(self.name, tag, self.body, OCI_MANIFEST)
        self.other = json.dumps({**image, "annotations": {"other": "yes"}}).encode()
        self.blob = secrets.token_bytes(100)
        self.source = self.client.push_blob(f"{slug}/source", secrets.token_bytes(100))
        self.upload = self.open_upload()
        rows = registry.rows(
            """
            SELECT r.id
              FROM repositories AS r
              JOIN organisations AS o ON o.id = r.organisation_id
             WHERE o.slug = :slug AND r.path = 'app'
            """,
            slug=slug,
        )
        self.id = to_text(rows[0][0])

    def close(self):
        self.client.close()
        self.api.close()

    def open_upload(self):
        return self.client.request("POST", f"/v2/{self.name}/blobs/uploads/").headers["location"]

    def put(self, reference, body, **params):
        return self.client.request(
            "PUT",
            f"/v2/{self.name}/manifests/{reference}",
            params=params,
            content=body,
            headers={"content-type": OCI_MANIFEST},
        )

    def set(self, **policies):
        answer = self.api.patch(f"/repositories/{self.id}", json=policies)
        assert answer.status_code == 200, answer.text

    def state(self):
        """All that a gate keeps: manifests, tags and their history, links of blobs."""
        return [
            self.registry.rows(
                f"""
                SELECT {columns}
                  FROM {table} AS t
                  JOIN repositories AS r ON r.id = t.repository_id
                  JOIN organisations AS o ON o.id = r.organisation_id
                 WHERE o.slug = :slug
                   AND r.path = 'app'
                   AND r.deleted_at IS NULL
                 ORDER BY 1, 2
                """,
                slug=self.slug,
            )
            for table, columns in (
                ("manifests", "t.digest, t.deleted_at, t.pushed_at"),
                ("tags", "t.name, t.digest, t.pushed_at"),
                ("tag_history", "t.name, t.version, t.ended_at"),
                ("blob_links", "t.digest, t.deleted_at"),
            )
        ]


# Paths that change what is there; each is given a scene and a tag.
CHANGES = {
    "put by tag": lambda scene, tag: scene.put(tag, scene.other),
    "put by digest with tags": lambda scene, tag: scene.put(
        digest_of(scene.other), scene.other, tag=[tag, "new"]
    ),
    "delete by tag": lambda scene, tag: scene.client.request(
        "DELETE", f"/v2/{scene.name}/manifests/{tag}"
    ),
    "delete by digest": lambda scene, _: scene.client.request(
        "DELETE", f"/v2/{scene.name}/manifests/{scene.digest}"
    ),
    "delete tag by the API": lambda scene, tag: scene.api.delete(
        f"/repositories/{scene.id}/tags/{tag}"
    ),
    "delete manifest by the API": lambda scene, _: scene.api.delete(
        f"/repositories/{scene.id}/manifests/{scene.digest}"
    ),
    "delete repository": lambda scene, _: scene.api.delete(f"/repositories/{scene.id}"),
}
MOVES = frozenset(name for name in CHANGES if name.startswith("put"))
# Paths that only add.
ADDITIONS = {
    "put a new tag": lambda scene, _: scene.put("new", scene.other),
    # distribution-spec, "Pushing manifests with multiple tags": only a digest takes `tag`.
    "put a new tag with others": lambda scene, tag: scene.put("new", scene.other, tag=[tag]),
    "put by digest": lambda scene, _: scene.put(digest_of(scene.other), scene.other),
    "put the same again": lambda scene, tag: scene.put(tag, scene.body),
    "begin an upload": lambda scene, _: scene.client.request(
        "POST", f"/v2/{scene.name}/blobs/uploads/"
    ),
    "send a whole blob": lambda scene, _: scene.client.request(
        "POST",
        f"/v2/{scene.name}/blobs/uploads/",
        params={"digest": digest_of(scene.blob)},
        content=scene.blob,
    ),
    "finish an upload": lambda scene, _: scene.client.request(
        "PUT", scene.upload, params={"digest": digest_of(scene.blob)}, content=scene.blob
    ),
    "mount": lambda scene, _: scene.client.request(
        "POST",
        f"/v2/{scene.name}/blobs/uploads/",
        params={"mount": scene.source, "from": f"{scene.slug}/source"},
    ),
    "delete a blob": lambda scene, _: scene.client.request(
        "DELETE", f"/v2/{scene.name}/blobs/{scene.source}"
    ),
}


@pytest.fixture
def scene(closed, slug):
    made = Scene(closed, slug)
    yield made
    made.close()


def read_only_repository(scene, _):
    scene.set(is_read_only=True)


def read_only_organisation(scene, _):
    answer = scene.api.patch(f"/organisations/{scene.slug}", json={"is_read_only": True})
    assert answer.status_code == 200, answer.text


def read_only_registry(scene, _):
    scene.registry.change(_READ_ONLY)


def immutable(scene, tag):
    scene.set(immutable_tags=["x", f"{tag[:2]}*"])


def protected(scene, tag):
    scene.set(protected_tags=[tag])


READ_ONLY = (read_only_repository, read_only_organisation, read_only_registry)
# Gate, path, and whether the gate keeps it.
MATRIX = [
    *((gate, path, True) for gate in READ_ONLY for path in (*CHANGES, *ADDITIONS)),
    *((immutable, path, True) for path in CHANGES),
    *((immutable, path, False) for path in ADDITIONS),
    *((protected, path, path not in MOVES) for path in CHANGES),
    *((protected, path, False) for path in ADDITIONS),
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    ("gate", "path", "is_kept"), MATRIX, ids=[f"{g.__name__}-{p}" for g, p, _ in MATRIX]
)
def test_a_gate_holds_on_every_path(scene, gate, path, is_kept, tag):
    if path == "delete a blob":
        scene.client.request(
            "POST",
            f"/v2/{scene.name}/blobs/uploads/",
            params={"mount": scene.source, "from": f"{scene.slug}/source"},
        )
    before = scene.state()
    try:
        gate(scene, tag)

        answer = {**CHANGES, **ADDITIONS}[path](scene, tag)
    finally:
        scene.registry.change(_WRITABLE)

    if is_kept:
        assert answer.status_code == 403, answer.text
        assert scene.state() == before
        assert (
            scene.client.request("GET", f"/v2/{scene.name}/manifests/{tag}").content == scene.body
        )
        if "/v2/" in str(answer.request.url):
            assert code_of(answer) == "DENIED"
    else:
        assert answer.status_code in {201, 202, 204}, answer.text


@pytest.mark.parametrize("gate", READ_ONLY)
def test_what_is_read_only_is_pulled_all_the_same(scene, gate):
    try:
        gate(scene, "v1")

        answers = [
            scene.client.request("GET", f"/v2/{scene.name}/{path}")
            for path in ("manifests/v1", "tags/list", f"referrers/{scene.digest}")
        ]
    finally:
        scene.registry.change(_WRITABLE)

    assert [answer.status_code for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize("gate", [read_only_organisation, read_only_registry])
def test_what_is_read_only_takes_no_new_repositories(scene, gate):
    try:
        gate(scene, "v1")

        pushed = scene.client.request("POST", f"/v2/{scene.slug}/new/blobs/uploads/")
        made = scene.api.post(f"/organisations/{scene.slug}/repositories", json={"path": "new"})
    finally:
        scene.registry.change(_WRITABLE)

    assert (pushed.status_code, made.status_code) == (403, 403)


def test_a_gate_that_is_taken_away_lets_changes_through(scene):
    scene.set(is_read_only=True, immutable_tags=["*"], protected_tags=["*"])
    assert scene.put("v1", scene.other).status_code == 403

    scene.set(is_read_only=False, immutable_tags=[], protected_tags=[])

    assert scene.put("v1", scene.other).status_code == 201
    assert CHANGES["delete by tag"](scene, "latest").status_code == 202
    assert CHANGES["delete repository"](scene, "").status_code == 204
