"""What every repository answers, be it hosted or mirrored, cold or warm."""

import json

import httpx
import pytest

from tests.mirror.turned import PATH, Cached
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of

TAGS = ["1.0", "1.1", "2.0", "latest"]
SBOM = "application/vnd.example.sbom"
NOTHING = f"sha256:{'0' * 64}"


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, *TAGS)


@pytest.fixture
def sbom(upstream, image):
    return upstream.put_referrer(PATH, image, SBOM)


@pytest.fixture(params=["hosted", "cold", "warm"])
async def repository(request, turned, upstream, image, sbom):
    """One with the content of the upstream's."""
    if request.param == "hosted":
        return await hosted(turned, upstream)
    made = await turned.cache(upstream)
    if request.param == "warm":
        for tag in TAGS:
            await made.manifest(tag)
        for digest in (image.config, *image.layers):
            await made.get(f"blobs/{digest}")
        await made.tags()
        await made.referrers(image.digest)
    return made


async def hosted(turned, upstream):
    """A repository that the same was pushed to."""
    made = Cached(turned, "hosted")
    content = upstream.repository(PATH)
    for digest, blob in content.blobs.items():
        put = await turned.client.post(
            f"/v2/{made.name}/blobs/uploads/", params={"digest": digest}, content=blob
        )
        assert put.status_code == 201, put.text
    names = {digest: digest for digest in content.manifests} | content.tags
    for name, digest in names.items():
        media_type, body = content.manifests[digest]
        put = await made.manifest(name, "PUT", content=body, headers={"content-type": media_type})
        assert put.status_code == 201, put.text
    return made


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_by_tag_and_by_digest(repository, image, method):
    for reference in ("latest", image.digest):
        answer = await repository.manifest(reference, method)

        assert answer.status_code == 200
        assert answer.content == (image.body if method == "GET" else b"")
        assert answer.headers["content-type"] == OCI_MANIFEST
        assert answer.headers["content-length"] == str(len(image.body))
        assert answer.headers["docker-content-digest"] == image.digest
        assert answer.headers["etag"] == f'"{image.digest}"'
        assert "warning" not in answer.headers


async def test_what_the_client_has_is_not_sent_again(repository, image):
    known = {"if-none-match": f'"{image.digest}"'}

    assert (await repository.manifest("latest", headers=known)).status_code == 304


@pytest.mark.parametrize("reference", ["nothing", NOTHING])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_that_is_not_there(repository, reference, method):
    answer = await repository.manifest(reference, method)

    assert answer.status_code == 404
    assert method == "HEAD" or answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_blob(repository, upstream, image, method):
    for digest in (image.config, *image.layers):
        answer = await repository.get(f"blobs/{digest}", method)

        content = upstream.repository(PATH).blobs[digest]
        assert answer.status_code == 200
        assert answer.content == (content if method == "GET" else b"")
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["accept-ranges"] == "bytes"


async def test_a_part_of_a_blob(repository, upstream, image):
    (layer,) = image.layers
    content = upstream.repository(PATH).blobs[layer]

    answer = await repository.get(f"blobs/{layer}", headers={"range": "bytes=100-199"})

    assert answer.status_code == 206
    assert answer.content == content[100:200]
    assert answer.headers["content-range"] == f"bytes 100-199/{len(content)}"


async def test_a_blob_that_the_client_has_is_not_sent_again(repository, image):
    known = {"if-none-match": f'"{image.config}"'}

    assert (await repository.get(f"blobs/{image.config}", headers=known)).status_code == 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_blob_that_is_not_there(repository, method):
    answer = await repository.get(f"blobs/{NOTHING}", method)

    assert answer.status_code == 404
    assert method == "HEAD" or answer.json()["errors"][0]["code"] == "BLOB_UNKNOWN"


async def test_tags_in_pages(repository):
    whole = await repository.tags()
    first = await repository.tags(n=3)
    none = await repository.tags(n=0)

    assert whole.json() == {"name": repository.name, "tags": TAGS}
    assert first.json()["tags"] == TAGS[:3]
    assert (await follow(repository, first)).json()["tags"] == TAGS[3:]
    assert none.json()["tags"] == []


async def test_referrers_filtered_and_not(repository, image, sbom):
    whole = await repository.referrers(image.digest)
    filtered = await repository.referrers(image.digest, artifactType="application/other")
    nothing = await repository.referrers(NOTHING)

    (descriptor,) = whole.json()["manifests"]
    assert whole.headers["content-type"] == OCI_INDEX
    assert descriptor == {
        "mediaType": OCI_MANIFEST,
        "digest": sbom.digest,
        "size": len(sbom.body),
        "artifactType": SBOM,
    }
    assert filtered.json()["manifests"] == nothing.json()["manifests"] == []
    assert filtered.headers["oci-filters-applied"] == "artifactType"


async def test_every_manifest_is_one_that_clients_can_read(repository, image):
    manifest = json.loads((await repository.manifest("latest")).content)

    for part in (manifest["config"], *manifest["layers"]):
        blob = await repository.get(f"blobs/{part['digest']}")
        assert (digest_of(blob.content), len(blob.content)) == (part["digest"], part["size"])


async def follow(repository: Cached, answer: httpx.Response) -> httpx.Response:
    """The next page."""
    link = answer.headers["link"].split(">")[0].strip("<")
    return await repository.turned.client.get(link)
