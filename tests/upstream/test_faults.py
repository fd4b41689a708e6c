"""T10, T33 and every status: what an upstream that misbehaves does to us."""

import asyncio
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from entrepot.model.clock import SECOND
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamSlow,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import Observation
from entrepot.upstream.outbound import Deadlines
from tests.support.upstreams import faults
from tests.upstream.conftest import LOOPBACK

LIMIT = 10_000


@pytest.fixture
def blob(upstream) -> Digest:
    upstream.put_image("team/app", "v1")
    return Digest.parse(upstream.repository("team/app").put_blob(size=300_000))


async def take(remote, digest: Digest, offset: int = 0, got: bytearray | None = None) -> bytes:
    got = bytearray() if got is None else got
    async with remote.blob("team/app", digest, offset) as blob:
        async for piece in blob.pieces:
            got += piece
    return bytes(got)


CALLS = {
    "head a manifest": lambda remote, _: remote.head_manifest("team/app", "v1"),
    "get a manifest": lambda remote, _: remote.manifest("team/app", "v1", limit=LIMIT),
    "head a blob": lambda remote, digest: remote.head_blob("team/app", digest),
    "get a blob": take,
    "list tags": lambda remote, _: anext(remote.tags("team/app")),
    "list referrers": lambda remote, digest: remote.referrers("team/app", digest, limit=LIMIT),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UpstreamForbidden),
        (403, UpstreamForbidden),
        (404, UpstreamMissing),
        (418, UpstreamBroken),
        (429, UpstreamBusy),
        (500, UpstreamDown),
        (502, UpstreamDown),
        (503, UpstreamDown),
        (204, UpstreamBroken),
        (206, UpstreamBroken),
        (304, UpstreamBroken),
    ],
)
async def test_every_status_has_its_error(remote_of, upstream, blob, call, status, error):
    upstream.script(faults.status(status))

    if call == "list referrers" and status == 404:
        assert await CALLS[call](remote_of(upstream), blob) is None
        return
    with pytest.raises(error) as raised:
        await CALLS[call](remote_of(upstream), blob)

    assert type(raised.value) is error
    assert "upstream hub" in raised.value.message
    assert "127.0.0.1" not in raised.value.message


@pytest.mark.parametrize(
    ("said", "wait"), [("7", 7), (None, None), ("date", 60), ("nonsense", None)]
)
async def test_429_says_when_to_come_back(
    remote_of, upstream, blob, clock, observations, said, wait
):
    if said == "date":
        now = datetime.fromtimestamp(clock.time / SECOND, UTC)
        said = format_datetime(now + timedelta(seconds=60), usegmt=True)
    upstream.script(faults.status(429, retry_after=said, body=b"slow down"))

    with pytest.raises(UpstreamBusy) as raised:
        await remote_of(upstream).head_manifest("team/app", "v1")

    (seen,) = observations
    assert seen.status == 429
    assert raised.value.values["retry_after"] == seen.retry_after
    assert seen.retry_after == wait or abs(seen.retry_after - wait) <= 1


async def test_a_failure_says_when_to_come_back_where_the_upstream_does(remote_of, upstream):
    upstream.script(faults.status(503, retry_after=60), times=1)
    upstream.script(faults.status(503))

    values = []
    for _ in range(2):
        with pytest.raises(UpstreamDown) as raised:
            await remote_of(upstream).head_manifest("team/app", "v1")
        values.append(raised.value.values.get("retry_after"))

    assert values == [60, None]


async def test_what_is_left_of_the_budget_is_observed(remote_of, upstream, observations):
    upstream.put_image("team/app", "v1")
    upstream.script(faults.headers(ratelimit_limit="100;w=21600", ratelimit_remaining="99;w=21600"))

    await remote_of(upstream).head_manifest("team/app", "v1")

    assert observations == [
        Observation(200, limit=100, limit_remaining=99, limit_window_seconds=21600)
    ]


# T10: bodies that break off.


@pytest.mark.parametrize(
    "fault", [faults.truncated(100_000), faults.reset(100_000), faults.unfinished_chunks(100_000)]
)
async def test_a_blob_that_breaks_off_never_looks_complete(remote_of, upstream, blob, fault):
    content = upstream.repository("team/app").blobs[str(blob)]
    upstream.script(fault, kind="blob")
    got = bytearray()

    with pytest.raises(UpstreamDown):
        await take(remote_of(upstream), blob, got=got)

    assert len(got) <= 100_000
    assert content.startswith(bytes(got))


@pytest.mark.parametrize("fault", [faults.truncated(50), faults.reset(50)])
async def test_a_manifest_that_breaks_off_is_none(remote_of, upstream, blob, fault):
    upstream.script(fault, kind="manifest")

    with pytest.raises(UpstreamDown):
        await remote_of(upstream).manifest("team/app", "v1", limit=LIMIT)


async def test_another_part_than_was_asked_for_is_refused(remote_of, upstream, blob):
    upstream.script(faults.wrong_range)

    with pytest.raises(UpstreamBroken, match="another part"):
        await take(remote_of(upstream), blob, 1000)


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes 1000-999/300000",
        "bytes 1000-300000/300000",
        "bytes */300000",
        "1000-1/2",
        "bytes 1000-",
    ],
)
async def test_a_range_that_says_nonsense_is_refused(remote_of, upstream, blob, content_range):
    upstream.script(faults.headers(Content_Range=content_range))

    with pytest.raises(UpstreamBroken, match="another part"):
        await take(remote_of(upstream), blob, 1000)


async def test_a_range_of_unknown_whole_is_taken(remote_of, upstream, blob):
    upstream.script(faults.headers(Content_Range="bytes 1000-299999/*"))

    async with remote_of(upstream).blob("team/app", blob, 1000) as remote_blob:
        assert remote_blob.size is None
        assert len(b"".join([piece async for piece in remote_blob.pieces])) == 299_000


@pytest.mark.parametrize(
    ("content_range", "error"),
    [("bytes 1000-1009/300000", UpstreamBroken), ("bytes 1000-400000/400001", UpstreamDown)],
)
async def test_a_range_is_as_long_as_it_says(remote_of, upstream, blob, content_range, error):
    upstream.script(faults.headers(Content_Range=content_range))

    with pytest.raises(error):
        await take(remote_of(upstream), blob, 1000)


async def test_a_range_past_the_end_is_refused(remote_of, upstream, blob):
    with pytest.raises(UpstreamBroken):
        await take(remote_of(upstream), blob, 300_000)


# What is not what it should be.


@pytest.mark.parametrize("call", ["get a manifest", "get a blob", "list tags", "list referrers"])
async def test_compression_that_nobody_asked_for_is_refused(remote_of, upstream, blob, call):
    upstream.script(faults.gzip)

    with pytest.raises(UpstreamBroken, match="compress"):
        await CALLS[call](remote_of(upstream), blob)


async def test_a_web_page_is_no_manifest(remote_of, upstream, blob):
    upstream.script(faults.html)

    with pytest.raises(UpstreamBroken, match="web page"):
        await remote_of(upstream).manifest("team/app", "v1", limit=LIMIT)


@pytest.mark.parametrize("fault", [faults.endless, faults.body(b"x" * (LIMIT + 1))])
async def test_a_manifest_has_a_largest_size(remote_of, upstream, blob, fault):
    upstream.script(fault, kind="manifest")

    with pytest.raises(UpstreamBroken, match=str(LIMIT)):
        await remote_of(upstream).manifest("team/app", "v1", limit=LIMIT)


async def test_an_endless_blob_uses_no_memory(remote_of, upstream, blob):
    upstream.script(faults.endless, kind="blob")
    got = 0

    async with remote_of(upstream).blob("team/app", blob) as remote_blob:
        async for piece in remote_blob.pieces:
            assert len(piece) <= 1 << 20
            got += len(piece)
            if got > 50 << 20:
                break

    assert remote_blob.size is None


async def test_headers_without_an_end_are_refused(remote_of, upstream, blob):
    upstream.script(faults.headers(X_Long="x" * 100_000))

    with pytest.raises(UpstreamBroken, match="not HTTP"):
        await remote_of(upstream).head_manifest("team/app", "v1")


@pytest.mark.parametrize(
    "words", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b""]
)
async def test_what_is_no_http_is_refused(remote_of, words):
    async def talk(reader, writer):
        await reader.read(1)
        writer.write(words)
        await writer.drain()
        writer.close()

    class Server:
        origin = ""

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        Server.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises((UpstreamBroken, UpstreamDown)):
            await remote_of(Server).head_manifest("team/app", "v1")


# T33: each phase can hang.


@pytest.mark.parametrize(
    ("call", "phase"),
    [*((call, "headers") for call in CALLS), ("get a blob", "half the headers")],
)
async def test_an_upstream_that_does_not_answer_is_slow(
    remote_of, impatient, upstream, blob, call, phase
):
    upstream.script(faults.hangs(phase))

    with pytest.raises(UpstreamSlow, match="in time"):
        await CALLS[call](remote_of(upstream, client=impatient), blob)


@pytest.mark.parametrize("call", ["get a manifest", "get a blob", "list tags"])
async def test_an_upstream_that_stops_sending_is_slow(remote_of, impatient, upstream, blob, call):
    upstream.script(faults.hangs("body"))

    with pytest.raises(UpstreamSlow):
        await CALLS[call](remote_of(upstream, client=impatient), blob)


async def test_a_blob_that_stops_in_the_middle_is_slow(remote_of, impatient, upstream, blob):
    upstream.script(faults.hangs_at(100_000))

    with pytest.raises(UpstreamSlow):
        await take(remote_of(upstream, client=impatient), blob)


@pytest.mark.parametrize("call", ["get a manifest", "get a blob"])
async def test_a_body_by_drops_is_slow(remote_of, impatient, upstream, blob, call):
    upstream.script(faults.slow(100))

    with pytest.raises(UpstreamSlow):
        await CALLS[call](remote_of(upstream, client=impatient), blob)


async def test_a_reader_that_is_slow_itself_is_not_the_upstreams_fault(
    remote_of, client_of, upstream
):
    client = client_of(allow=LOOPBACK, deadlines=Deadlines(idle=0.5, window=0.1, slowest=1 << 20))
    digest = Digest.parse(upstream.repository("team/app").put_blob(size=8 << 20))
    got = 0

    async with remote_of(upstream, client=client).blob("team/app", digest) as blob:
        async for piece in blob.pieces:
            got += len(piece)
            if got < 4 << 20:
                await asyncio.sleep(0.05)  # it is slow, nothing is waited for

    assert got == 8 << 20


async def test_a_host_that_does_not_accept_is_slow(remote_of, impatient):
    class Silent:
        origin = ""

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        Silent.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        waiting = []
        for _ in range(3):  # fill the queue of connections that nobody accepts
            client = socket.socket()
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(listener.getsockname())
            waiting.append(client)
        with pytest.raises(UpstreamSlow):
            await remote_of(Silent, client=impatient).head_manifest("team/app", "v1")
        for client in waiting:
            client.close()


async def test_a_host_that_is_not_there_is_down(remote_of, upstream):
    remote = remote_of(upstream)
    upstream.stop()

    with pytest.raises(UpstreamDown, match="cannot be reached") as raised:
        await remote.head_manifest("team/app", "v1")

    assert raised.value.values["reason"] == "connect"
    upstream.start()


async def test_a_name_without_an_address_is_down(remote_of):
    class Nowhere:
        origin = "http://no-such-host.invalid"

    with pytest.raises(UpstreamDown, match="without an address") as raised:
        await remote_of(Nowhere).head_manifest("team/app", "v1")

    assert raised.value.values["reason"] == "dns"


async def test_a_connection_that_was_closed_meanwhile_is_made_again(remote_of, upstream, blob):
    remote = remote_of(upstream)
    await remote.head_manifest("team/app", "v1")
    upstream.stop()
    upstream.start()

    assert (await remote.head_manifest("team/app", "v1")).digest


# Redirects.


async def test_redirects_have_an_end(remote_of, upstream, blob):
    upstream.script(faults.redirect(f"/v2/team/app/blobs/{blob}"))

    with pytest.raises(UpstreamBroken, match="more than 5 times"):
        await take(remote_of(upstream), blob)

    assert upstream.log.count(kind="blob") == 6


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["head a manifest", "get a manifest", "head a blob", "get a blob"])
async def test_redirects_of_every_kind_are_followed(remote_of, upstream, blob, call, code):
    upstream.script(faults.redirect("/elsewhere/", code), times=1)

    with pytest.raises(UpstreamMissing):
        await CALLS[call](remote_of(upstream), blob)

    assert upstream.log.entries[-1].path == "/elsewhere/"
    assert upstream.log.entries[-1].method == upstream.log.entries[0].method


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://user:password@127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:1/",
        "http://0.0.0.0:1/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://127.0.0.1:99999/",
        "http://" + "x" * 20_000,
        "gopher:x",
        "javascript:alert(1)",
    ],
)
async def test_a_redirect_astray_is_refused(remote_of, upstream, blob, location):
    upstream.script(faults.redirect(location))

    with pytest.raises((UpstreamUnsafe, UpstreamBroken)) as raised:
        await take(remote_of(upstream), blob)

    assert "169.254" not in raised.value.message


async def test_a_presigned_address_is_not_written_otherwise(remote_of, upstream, blob):
    query = "sig=a%2Bb%2f%3D+c/d~e%20f&x=%C3%A9"
    upstream.script(faults.redirect(f"/signed%2Fpath/it?{query}#part"), times=1)

    with pytest.raises(UpstreamMissing):
        await take(remote_of(upstream), blob)

    entry = upstream.log.entries[-1]
    assert entry.query == {"sig": ["a+b/= c/d~e f"], "x": ["é"]}
    assert entry.path == "/signed/path/it"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, UpstreamBroken),
        (404, UpstreamMissing),
        (429, UpstreamBusy),
        (500, UpstreamDown),
        (400, UpstreamBroken),
    ],
)
async def test_what_a_storage_host_answers_is_not_taken_for_the_registrys_word(
    remote_of, upstream, blob_host, blob, observations, status, error
):
    upstream.blob_host = blob_host
    blob_host.faults.append(faults.status(status))

    with pytest.raises(error, match="storage host of the upstream hub") as raised:
        await take(remote_of(upstream), blob)

    assert not isinstance(raised.value, UpstreamForbidden)
    assert [seen.status for seen in observations] == [307]
