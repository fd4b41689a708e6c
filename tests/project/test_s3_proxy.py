"""Each fault as a plain client sees it, in front of a server of a few lines."""

import http.client
import time
from xml.sax.saxutils import escape

import pytest

from tests.support import s3_faults
from tests.support.s3_lag import Lag
from tests.support.s3_proxy import S3Proxy
from tests.support.upstreams import Reply, WireServer

CONTENT = bytes(range(256)) * 1000


class Objects(WireServer):
    """Keeps what is put, and lists it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}
        self.hosts: list[str] = []

    async def answer(self, request, _):
        self.hosts.append(request.headers["host"])
        key = request.path.removeprefix("/bucket").removeprefix("/")
        if request.method == "PUT":
            self.kept[key] = request.body
            return Reply(200, {"ETag": '"x"'})
        if request.method == "DELETE":
            self.kept.pop(key, None)
            return Reply(204)
        if not key:
            keys = "".join(f"<Contents><Key>{escape(k)}</Key></Contents>" for k in self.kept)
            return Reply(200, {}, f"<List>{keys}</List>".encode())
        if key not in self.kept:
            return Reply(404)
        return Reply(200, {}, self.kept[key])


@pytest.fixture
def server():
    with Objects().running() as server:
        yield server


@pytest.fixture
def proxy(server):
    with S3Proxy(server.origin, seed=1).running() as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=10)
    yield connection
    connection.close()


def ask(client, method, path, body=None):
    """The status and the body of one answer."""
    client.request(method, path, body)
    answer = client.getresponse()
    return answer.status, answer.read()


def test_without_a_fault_everything_passes_as_it_was_sent(proxy, server, client):
    assert ask(client, "PUT", "/bucket/a", CONTENT) == (200, b"")
    assert ask(client, "GET", "/bucket/a") == (200, CONTENT)
    assert ask(client, "HEAD", "/bucket/a") == (200, b"")
    assert ask(client, "DELETE", "/bucket/a") == (204, b"")
    assert ask(client, "GET", "/bucket/a")[0] == 404

    assert set(server.hosts) == {proxy.address}
    assert [(e.operation, e.status, e.fault) for e in proxy.log] == [
        ("PutObject", 200, ""),
        ("GetObject", 200, ""),
        ("HeadObject", 200, ""),
        ("DeleteObject", 204, ""),
        ("GetObject", 404, ""),
    ]
    assert (proxy.log[0].received, proxy.log[1].sent) == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
        ("GET", "/b/k?uploadId=u", "ListParts"),
        ("GET", "/b?uploads", "ListMultipartUploads"),
        ("GET", "/b/?list-type=2&prefix=a%2F", "ListObjectsV2"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("PUT", "/b", "CreateBucket"),
    ],
)
def test_operations_are_known_by_their_names(proxy, client, method, path, operation):
    proxy.on(operation, s3_faults.refused(503, "SlowDown"))

    status, body = ask(client, method, path, b"")

    assert status == 503
    assert b"<Code>SlowDown</Code>" in body
    assert proxy.count(operation, fault="refused 503 SlowDown") == 1


def test_a_refused_request_never_reaches_the_server(proxy, server, client):
    proxy.on("PutObject", s3_faults.refused(403, "RequestTimeTooSkewed"))

    assert ask(client, "PUT", "/bucket/a", CONTENT)[0] == 403
    assert server.kept == {}
    assert ask(client, "PUT", "/bucket/a", CONTENT)[0] == 200
    assert server.kept == {"a": CONTENT}


def test_only_what_was_planned_is_refused(proxy, client):
    proxy.on("PutObject", s3_faults.refused(500, "InternalError"), key="^x", nth=2, times=2)

    statuses = [ask(client, "PUT", f"/bucket/{key}", b"")[0] for key in "xaxxx"]

    assert statuses == [200, 200, 500, 500, 200]


def test_chances_are_the_same_for_the_same_seed(server):
    def statuses(seed: int) -> list[int]:
        with S3Proxy(server.origin, seed=seed).running() as proxy:
            proxy.on("*", s3_faults.refused(500, "InternalError"), times=None, chance=0.5)
            client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=10)
            found = [ask(client, "PUT", "/bucket/a", b"")[0] for _ in range(20)]
            client.close()
            return found

    assert statuses(1) == statuses(1) != statuses(2)


def test_mended_it_does_nothing_wrong_any_more(proxy, client):
    proxy.on("*", s3_faults.refused(500, "InternalError"), times=None)
    proxy.lag = Lag(5)

    proxy.mend()

    assert ask(client, "PUT", "/bucket/a", b"")[0] == 200
    assert ask(client, "GET", "/bucket/a")[0] == 200


def test_what_is_swallowed_was_never_done(proxy, server, client):
    proxy.on("PutObject", s3_faults.swallowed())

    assert ask(client, "PUT", "/bucket/a", CONTENT) == (200, b"")
    assert server.kept == {}


def test_a_lost_answer_is_that_of_something_done(proxy, server, client):
    proxy.on("PutObject", s3_faults.lost_answer())

    with pytest.raises(http.client.RemoteDisconnected):
        ask(client, "PUT", "/bucket/a", CONTENT)
    assert server.kept == {"a": CONTENT}


def test_a_lost_answer_may_end_in_a_reset(proxy, client):
    proxy.on("PutObject", s3_faults.lost_answer("reset"))

    with pytest.raises(ConnectionResetError):
        ask(client, "PUT", "/bucket/a", CONTENT)


def test_a_lost_answer_may_be_waited_for_in_vain(proxy, server, client):
    proxy.on("PutObject", s3_faults.lost_answer("hang"))
    client.timeout = 0.3

    with pytest.raises(TimeoutError):
        ask(client, "PUT", "/bucket/a", CONTENT)
    assert server.kept == {"a": CONTENT}


def test_a_request_breaks_off_on_both_sides(proxy, server, client):
    proxy.on("PutObject", s3_faults.broken_request(1000, "reset"))

    with pytest.raises(ConnectionError):
        ask(client, "PUT", "/bucket/a", CONTENT)
    assert server.kept == {}
    assert proxy.log[0].received == 1000


def test_an_error_may_be_inside_an_answer_of_something_done(proxy, server, client):
    proxy.on("PutObject", s3_faults.error_inside("InternalError"))

    status, body = ask(client, "PUT", "/bucket/a", CONTENT)

    assert status == 200
    assert b"<Code>InternalError</Code>" in body
    assert server.kept == {"a": CONTENT}


def test_an_answer_may_be_rewritten(proxy, client):
    ask(client, "PUT", "/bucket/a", b"right")
    proxy.on("GetObject", s3_faults.rewritten(lambda body: body + b" and more"))

    assert ask(client, "GET", "/bucket/a") == (200, b"right and more")


def test_an_answer_may_be_late(proxy, client):
    proxy.on("PutObject", s3_faults.late(0.2))

    began = time.monotonic()

    assert ask(client, "PUT", "/bucket/a", b"")[0] == 200
    assert time.monotonic() - began >= 0.2


def test_an_answer_may_be_short(proxy, client):
    ask(client, "PUT", "/bucket/a", CONTENT)
    proxy.on("GetObject", s3_faults.short(70_000))

    with pytest.raises(http.client.IncompleteRead) as stopped:
        ask(client, "GET", "/bucket/a")

    assert stopped.value.partial == CONTENT[:70_000]


def test_one_byte_of_an_answer_may_be_another(proxy, client):
    ask(client, "PUT", "/bucket/a", CONTENT)
    proxy.on("GetObject", s3_faults.altered(70_000))

    _, body = ask(client, "GET", "/bucket/a")

    assert [at for at in range(len(CONTENT)) if body[at] != CONTENT[at]] == [70_000]


def test_what_is_new_is_seen_late_each_key_in_its_own_time(proxy, client):
    proxy.lag = Lag(3, seed=1)
    keys = [f"key-{number}" for number in range(8)]
    for key in keys:
        ask(client, "PUT", f"/bucket/{key}", b"x")

    looks = [[ask(client, "HEAD", f"/bucket/{key}")[0] for _ in range(4)] for key in keys]

    assert all(look == sorted(look, reverse=True) for look in looks)
    assert {look[0] for look in looks} == {200, 404}
    assert {look[3] for look in looks} == {200}


def test_lists_are_late_too(proxy, client):
    proxy.lag = Lag(3, seed=1)
    for number in range(8):
        ask(client, "PUT", f"/bucket/key-{number}", b"x")

    found = [ask(client, "GET", "/bucket/?list-type=2")[1].count(b"<Key>") for _ in range(4)]

    assert found == sorted(found)
    assert found[0] < found[3] == 8


def test_what_is_deleted_is_there_for_a_while(proxy, server, client):
    for number in range(8):
        ask(client, "PUT", f"/bucket/key-{number}", b"x")
    proxy.lag = Lag(3, seed=1)

    for number in range(8):
        assert ask(client, "DELETE", f"/bucket/key-{number}")[0] == 204

    left = list(server.kept)
    assert 0 < len(left) < 8
    assert ask(client, "GET", f"/bucket/{left[0]}") == (200, b"x")
    proxy.lag.settle()
    assert ask(client, "GET", f"/bucket/{left[0]}")[0] == 404
    assert server.kept == {}
