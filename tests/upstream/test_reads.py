"""What an upstream that behaves is asked, and what comes of it."""

import asyncio
import json
import time

import pytest

from entrepot.model.digests import Digest
from entrepot.model.errors import (
    NameInvalid,
    UpstreamBroken,
    UpstreamMissing,
)
from entrepot.model.media_types import OCI_INDEX, OCI_MANIFEST
from entrepot.model.upstreams import RemoteHead, RemoteManifest
from entrepot.upstream.remote import full_path
from tests.support.upstreams import Reply, faults

LIMIT = 4 << 20


async def whole(remote, path, digest, offset=0) -> bytes:
    async with remote.blob(path, Digest.parse(digest), offset) as blob:
        return b"".join([piece async for piece in blob.pieces])


async def test_a_manifest_by_tag_comes_with_its_type_and_digest(remote_of, upstream):
    image = upstream.put_image("team/app", "v1")
    remote = remote_of(upstream)

    head = await remote.head_manifest("team/app", "v1")
    manifest = await remote.manifest("team/app", "v1", limit=LIMIT)

    assert head == RemoteHead(OCI_MANIFEST, image.digest)
    assert manifest == RemoteManifest(image.body, OCI_MANIFEST, image.digest)
    (asked, _) = upstream.log.of(kind="manifest")
    assert OCI_INDEX in asked.headers["accept"]
    assert asked.headers["accept-encoding"] == "identity"
    assert "cookie" not in asked.headers


async def test_what_an_upstream_does_not_say_is_not_known(remote_of, upstream):
    upstream.put_image("team/app", "v1")
    upstream.manners.sends_digest = False

    head = await remote_of(upstream).head_manifest("team/app", "v1")

    assert head.digest is None


async def test_a_digest_that_is_none_counts_as_not_said(remote_of, upstream):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.headers(Docker_Content_Digest="sha256:ABC"))

    assert (await remote_of(upstream).head_manifest("team/app", "v1")).digest is None


@pytest.mark.parametrize("status", [405, 501])
async def test_where_head_is_not_served_nothing_is_known(remote_of, upstream, status):
    upstream.script(faults.status(status), method="HEAD")

    assert await remote_of(upstream).head_manifest("team/app", "v1") == RemoteHead(None, None)


async def test_what_is_not_there_is_missing(remote_of, upstream):
    remote = remote_of(upstream)
    digest = Digest.of(b"nothing")

    with pytest.raises(UpstreamMissing):
        await remote.head_manifest("team/app", "v1")
    with pytest.raises(UpstreamMissing):
        await remote.manifest("team/app", str(digest), limit=LIMIT)
    with pytest.raises(UpstreamMissing):
        await remote.head_blob("team/app", digest)
    with pytest.raises(UpstreamMissing):
        await whole(remote, "team/app", str(digest))
    with pytest.raises(UpstreamMissing):
        await anext(remote.tags("team/app"))


@pytest.mark.parametrize("framing", [None, faults.chunked, faults.until_closed])
async def test_a_blob_comes_whole_and_from_any_offset(remote_of, upstream, framing):
    content = bytes(range(256)) * 5_000
    digest = upstream.repository("team/app").put_blob(content)
    if framing:
        upstream.script(framing)
    remote = remote_of(upstream)

    for offset in (0, 1, 1_000_000, len(content) - 1):
        async with remote.blob("team/app", Digest.parse(digest), offset) as blob:
            assert blob.offset == offset
            assert blob.size == (len(content) if offset or framing is None else None)
            assert b"".join([piece async for piece in blob.pieces]) == content[offset:]


async def test_the_size_of_a_blob_that_may_be_read(remote_of, upstream):
    digest = upstream.repository("team/app").put_blob(size=12_345)

    assert await remote_of(upstream).head_blob("team/app", Digest.parse(digest)) == 12_345


async def test_where_head_is_not_served_the_size_comes_with_get(remote_of, upstream):
    digest = Digest.parse(upstream.repository("team/app").put_blob(size=50_000_000))
    upstream.manners.answers_head_of_blobs = False

    assert await remote_of(upstream).head_blob("team/app", digest) == 50_000_000
    with pytest.raises(UpstreamMissing):
        await remote_of(upstream).head_blob("team/app", Digest.of(b"nothing"))


async def test_where_storage_is_not_signed_for_head_the_size_comes_with_get(
    remote_of, upstream, blob_host
):
    digest = upstream.repository("team/app").put_blob(size=5_000)
    upstream.blob_host = blob_host
    lent = blob_host.lend(digest, upstream.repository("team/app").blobs[digest])
    upstream.script(faults.redirect(lent), kind="blob", method="HEAD")
    blob_host.faults.append(
        lambda reply: reply if blob_host.log.entries[-1].method == "GET" else Reply(403)
    )

    assert await remote_of(upstream).head_blob("team/app", Digest.parse(digest)) == 5_000


async def test_an_upstream_without_ranges_sends_the_blob_from_its_beginning(remote_of, upstream):
    digest = upstream.repository("team/app").put_blob(b"0123456789")
    upstream.script(faults.ignores_range)

    async with remote_of(upstream).blob("team/app", Digest.parse(digest), 4) as blob:
        assert (blob.offset, blob.size) == (0, 10)
        assert b"".join([piece async for piece in blob.pieces]) == b"0123456789"


async def test_an_empty_blob_has_no_piece(remote_of, upstream):
    digest = upstream.repository("team/app").put_blob(b"")

    assert await whole(remote_of(upstream), "team/app", digest) == b""


async def test_a_blob_from_another_host(remote_of, upstream, blob_host):
    digest = upstream.repository("team/app").put_blob(size=100_000)
    upstream.blob_host = blob_host

    content = await whole(remote_of(upstream), "team/app", digest, 7)

    assert len(content) == 100_000 - 7
    (asked,) = blob_host.log.entries
    assert asked.headers["range"] == "bytes=7-"
    assert asked.authorization == ""


async def test_tags_come_a_page_at_a_time(remote_of, upstream):
    upstream.put_image("team/app", *(f"v{number}" for number in range(25)))
    upstream.manners.tags_in_a_page = 10

    pages = [page async for page in remote_of(upstream).tags("team/app")]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert sorted(tag for page in pages for tag in page) == sorted(f"v{n}" for n in range(25))
    assert upstream.log.of(kind="tags")[0].query["n"] == ["1000"]


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        (b'{"name":"team/app","tags":null}', []),
        (b'{"name":"team/app"}', []),
        (
            b'{"tags":["v1",null,7,"sha256:abc",".x","","v2"],"child":[],"manifest":{}}',
            ["v1", "v2"],
        ),
    ],
)
async def test_what_is_no_tag_is_left_out(remote_of, upstream, body, tags):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.body(body), kind="tags")

    assert [page async for page in remote_of(upstream).tags("team/app")] == [tags]


@pytest.mark.parametrize(("entry", "kept"), [(b'"v1",', 100_000), (b'"-",', 0)])
async def test_no_page_of_tags_keeps_others_waiting(remote_of, upstream, entry, kept):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.body(b'{"tags":[' + entry * 500_000 + b'""]}'), kind="tags")
    longest, ended = 0.0, asyncio.Event()

    async def live() -> None:
        nonlocal longest
        while not ended.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)

    living = asyncio.create_task(live())
    page = await anext(remote_of(upstream).tags("team/app"))
    ended.set()
    await living

    assert len(page) == kept
    assert longest < 0.4  # reading them all in the event loop takes a second and more


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"tags":{}}', b"\xff"])
async def test_what_is_no_list_of_tags_is_refused(remote_of, upstream, body):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.body(body), kind="tags")

    with pytest.raises(UpstreamBroken, match="upstream hub"):
        await anext(remote_of(upstream).tags("team/app"))


@pytest.mark.parametrize(
    "link",
    [
        '</v2/team/app/tags/list?last=x%2By&n=3>; rel="next"',
        "<list?last=x%2By&n=3>;rel=next",
        "<http://{address}/v2/team/app/tags/list?last=x%2By&n=3>; rel=next",
        "<https://127.0.0.1/v2/team/app/tags/list?last=x%2By&n=3>",
        '</other>; rel="prev", </v2/team/app/tags/list?last=x%2By&n=3>; rel="last next"',
    ],
)
async def test_the_upstreams_own_cursor_is_followed_to_the_upstream_alone(
    remote_of, upstream, link
):
    upstream.put_image("team/app", "v1")
    link = link.replace("{address}", upstream.address)
    upstream.script(faults.headers(Link=link), kind="tags", times=1)

    assert len([page async for page in remote_of(upstream).tags("team/app")]) == 2

    _, second = upstream.log.of(kind="tags")
    assert second.query["last"] == ["x+y"]


@pytest.mark.parametrize(
    "link",
    ["<https://evil.example/v2/x>; rel=next", "<//evil.example/>; rel=next", "<ftp:x>; rel=next"],
)
async def test_a_cursor_to_another_host_is_refused(remote_of, upstream, link):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.headers(Link=link), kind="tags")

    with pytest.raises(UpstreamBroken, match="another host"):
        await anext(remote_of(upstream).tags("team/app"))


async def test_a_list_that_leads_to_itself_ends(remote_of, upstream):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.headers(Link="</v2/team/app/tags/list?n=1000>; rel=next"), kind="tags")

    pages = [page async for page in remote_of(upstream).tags("team/app")]

    assert len(pages) <= 2


async def test_referrers_come_by_the_api(remote_of, upstream):
    image = upstream.put_image("team/app", "v1")
    signature = upstream.put_referrer("team/app", image, "application/x.signature")

    body = await remote_of(upstream).referrers("team/app", Digest.parse(image.digest), limit=LIMIT)

    assert body is not None
    assert [entry["digest"] for entry in json.loads(body)["manifests"]] == [signature.digest]


async def test_referrers_come_by_the_fallback_tag(remote_of, upstream):
    image = upstream.put_image("team/app", "v1")
    upstream.manners.has_referrers_api = False
    upstream.put_index("team/app", image.digest.replace(":", "-"))

    body = await remote_of(upstream).referrers("team/app", Digest.parse(image.digest), limit=LIMIT)

    assert body is not None
    assert len(json.loads(body)["manifests"]) == 2


async def test_where_there_are_no_referrers_there_are_none(remote_of, upstream):
    image = upstream.put_image("team/app", "v1")
    upstream.manners.has_referrers_api = False

    remote = remote_of(upstream)

    assert await remote.referrers("team/app", Digest.parse(image.digest), limit=LIMIT) is None


async def test_pages_of_referrers_become_one_index(remote_of, upstream):
    image = upstream.put_image("team/app", "v1")
    for number in range(2):
        upstream.put_referrer("team/app", image, f"application/x.{number}")
    link = f"</v2/team/app/referrers/{image.digest}?page=2>; rel=next"
    upstream.script(faults.headers(Link=link), kind="referrers", times=1)

    body = await remote_of(upstream).referrers("team/app", Digest.parse(image.digest), limit=LIMIT)

    assert body is not None
    index = json.loads(body)
    assert index["mediaType"] == OCI_INDEX
    assert len(index["manifests"]) == 4


@pytest.mark.parametrize(
    "fault",
    [faults.status(404), faults.status(400), faults.body(b"hello"), faults.status(403)],
    ids=["404", "400", "no-index", "403"],
)
@pytest.mark.parametrize("is_tag", [False, True])
async def test_half_a_list_of_referrers_does_not_pass_for_all_of_it(
    remote_of, upstream, fault, is_tag
):
    image = upstream.put_image("team/app", "v1")
    upstream.put_referrer("team/app", image, "application/vnd.example.signature")
    upstream.manners.has_referrers_api = not is_tag
    found = upstream.repository("team/app").referrers(image.digest)
    listed = {"schemaVersion": 2, "manifests": found}
    tag = image.digest.replace(":", "-")
    path = f"/v2/team/app/{f'manifests/{tag}' if is_tag else f'referrers/{image.digest}'}"
    link = f"<{path}?page=2>; rel=next"
    body = json.dumps(listed).encode()
    first = Reply(200, {"Content-Type": OCI_INDEX, "Link": link}, body)
    upstream.script(faults.answer(first), path=path, times=1)
    upstream.script(fault, path=path, times=1)

    with pytest.raises(UpstreamBroken):
        await remote_of(upstream).referrers("team/app", Digest.parse(image.digest), limit=LIMIT)


@pytest.mark.parametrize(
    ("preset", "written", "path"),
    [
        ("docker-hub", "redis", "library/redis"),
        ("docker-hub", "library/redis", "library/redis"),
        ("docker-hub", "docker.io/redis", "library/redis"),
        ("docker-hub", "index.docker.io/bitnami/redis", "bitnami/redis"),
        ("ghcr", "ghcr.io/org/app", "org/app"),
        ("ghcr", "app", "app"),
        ("custom", "docker.io/redis", "docker.io/redis"),
    ],
)
def test_a_path_as_the_upstream_names_it(preset, written, path):
    assert full_path(preset, written) == path


@pytest.mark.parametrize("path", ["", "..", "a/../b", "A", "a//b", "a?b", "a%2fb", "/a", "a" * 300])
def test_a_path_that_is_no_name_is_refused(path):
    with pytest.raises(NameInvalid):
        full_path("custom", path)
