"""An object store that fails, lies and forgets: never a 201 for what is not there, nothing left."""

import json
import secrets
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import s3_faults
from tests.support.eventually import eventually
from tests.support.invariants import check_invariants
from tests.support.kept import KeptObjects
from tests.support.s3_lag import Lag
from tests.support.s3_proxy import S3Proxy
from tests.support.server import Client, digest_of, running_server

pytestmark = pytest.mark.slow

_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}
_MIB = 1 << 20
_SMALL = 100_000  # one request
_LARGE = 11 * _MIB  # three parts
_DAYS = 3 * 86_400  # after which nothing unfinished is kept
# Run, not imported: it turns the clock of whoever reads it.
_TURNED = Path(__file__).parents[1] / "support/turned_clock.py"

_LATE = s3_faults.late(0.5)
_BUSY = s3_faults.refused(503, "SlowDown")
_BROKEN = s3_faults.refused(500, "InternalError")
_SKEWED = s3_faults.refused(403, "RequestTimeTooSkewed")
_NO_UPLOAD = s3_faults.refused(404, "NoSuchUpload")
_TOO_SMALL = s3_faults.refused(400, "EntityTooSmall")
_LIE = s3_faults.refused(200, "InternalError")
_FORGOTTEN = s3_faults.swallowed()
_LOST = s3_faults.lost_answer()
_RESET = s3_faults.lost_answer("reset")
_SAID_TO_FAIL = s3_faults.error_inside("InternalError")
_CUT = s3_faults.broken_request(50_000, "reset")

_OF_ONE_REQUEST = ("PutObject",)
_OF_PARTS = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")

PASSING = [
    *(
        (name, fault)
        for name in (*_OF_ONE_REQUEST, *_OF_PARTS)
        for fault in (_BUSY, _BROKEN, _LOST)
    ),
    *((name, _RESET) for name in ("PutObject", "UploadPart", "CompleteMultipartUpload")),
    *((name, _CUT) for name in ("PutObject", "UploadPart")),
    *(("HeadObject", fault) for fault in (_BUSY, _BROKEN)),
    ("CompleteMultipartUpload", _LIE),
    ("CompleteMultipartUpload", _SAID_TO_FAIL),
    *((name, _LATE) for name in ("PutObject", "CompleteMultipartUpload", "HeadObject")),
]
"""What a push does not notice: it is tried again."""

ENDING = [
    *((name, _SKEWED) for name in (*_OF_ONE_REQUEST, *_OF_PARTS)),
    *((name, _NO_UPLOAD) for name in ("UploadPart", "CompleteMultipartUpload")),
    ("CompleteMultipartUpload", _TOO_SMALL),
    *((name, _FORGOTTEN) for name in ("PutObject", "UploadPart")),
]
"""What ends a push, at once and clearly."""

LASTING = [
    *((name, fault) for name in (*_OF_ONE_REQUEST, *_OF_PARTS) for fault in (_BUSY, _BROKEN)),
    *((name, _CUT) for name in ("PutObject", "UploadPart")),
    ("CompleteMultipartUpload", _LIE),
]
"""What a push gives up on after some attempts, each of which takes its time."""

LASTING_SHORT = [
    ("PutObject", _BUSY),
    ("CreateMultipartUpload", _BROKEN),
    ("UploadPart", _CUT),
    ("CompleteMultipartUpload", _LIE),
]
"""Of these one for each operation; the others only in `make soak`."""

LEAVING = [
    ("UploadPart", _SKEWED),
    ("UploadPart", _CUT),
    ("CompleteMultipartUpload", _BROKEN),
    ("CompleteMultipartUpload", _TOO_SMALL),
    ("PutObject", _FORGOTTEN),
]
"""What leaves something behind, or tries to."""

DONE = [
    ("CompleteMultipartUpload", _LOST),
    ("CompleteMultipartUpload", _RESET),
    ("CompleteMultipartUpload", _SAID_TO_FAIL),
    ("PutObject", _LOST),
    ("PutObject", _RESET),
]
"""What was done each time, though no answer ever says so."""


def _id(value):
    return value.name if isinstance(value, s3_faults.Fault) else value


def _cases(cases, short=None):
    """Those that are not in `short`, if it is given, only in `make soak`."""
    marks = [() if short is None or case in short else pytest.mark.soak for case in cases]
    cases = [pytest.param(*case, marks=mark) for case, mark in zip(cases, marks, strict=True)]
    return pytest.mark.parametrize(("operation", "fault"), cases, ids=_id)


class Stand:
    """A server on a bucket, with a proxy between them."""

    def __init__(self, server, proxy, bucket):
        self.server = server
        self.proxy = proxy
        self.bucket = bucket
        self.client = Client(server, mode="open")

    def push(self, name, content):
        """POST and PUT; the answer to the last of them."""
        begun = self.client.request("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status_code == 202, begun.text
        place = begun.headers["location"]
        return self.client.request(
            "PUT", place, params={"digest": digest_of(content)}, content=content
        )

    def pull(self, name, content):
        return self.client.request("GET", f"/v2/{name}/blobs/{digest_of(content)}")


@contextmanager
def standing(server, proxy, bucket):
    stand = Stand(server, proxy, bucket)
    try:
        yield stand
    finally:
        stand.client.close()


def settings_of(bucket):
    return {**_OPEN, **bucket.settings("registry")}


@pytest.fixture(scope="module")
def shared(object_server, tmp_path_factory):
    """One server for all tests of this file: what one leaves behind the next must bear."""
    bucket = object_server.new_bucket()
    data = tmp_path_factory.mktemp("stand") / "data"
    with S3Proxy(object_server.endpoint, seed=1).running() as proxy:
        environment = settings_of(bucket.behind(proxy.origin))
        with (
            running_server(data, environment=environment) as server,
            standing(server, proxy, bucket) as stand,
        ):
            yield stand


@pytest.fixture
def stand(shared):
    shared.proxy.log.clear()
    yield shared
    shared.proxy.mend()


def content_for(operation):
    return secrets.token_bytes(_LARGE if operation in _OF_PARTS else _SMALL)


def require_clear(answer):
    assert answer.status_code in {500, 503}, answer.text
    (error,) = json.loads(answer.content)["errors"]
    assert "object store" in error["message"]
    assert "Error" not in error["message"]  # the store's words are for the log


@_cases(PASSING)
def test_a_fault_that_passes_costs_nothing_but_time(stand, name, operation, fault):
    content = content_for(operation)
    stand.proxy.on(operation, fault)

    pushed = stand.push(name, content)

    assert stand.proxy.count(operation, fault=fault.name) == 1
    assert pushed.status_code == 201, pushed.text
    assert stand.pull(name, content).content == content


@_cases(ENDING)
def test_a_fault_that_does_not_pass_is_a_clear_error(stand, name, operation, fault):
    content = content_for(operation)
    stand.proxy.on(operation, fault)

    refused = stand.push(name, content)
    absent = stand.pull(name, content)
    again = stand.push(name, content)

    assert stand.proxy.count(operation, fault=fault.name) == 1
    require_clear(refused)
    assert absent.status_code == 404
    assert again.status_code == 201, again.text
    assert stand.pull(name, content).content == content


@_cases(LASTING, LASTING_SHORT)
def test_attempts_have_an_end(stand, name, operation, fault):
    content = content_for(operation)
    stand.proxy.on(operation, fault, times=None)

    refused = stand.push(name, content)
    stand.proxy.mend()
    again = stand.push(name, content)

    # Five for each of three parts.
    assert 2 <= stand.proxy.count(operation, fault=fault.name) <= 15
    require_clear(refused)
    assert again.status_code == 201, again.text


@_cases(DONE)
def test_what_was_done_counts_though_nobody_ever_says_so(stand, name, operation, fault):
    content = content_for(operation)
    stand.proxy.on(operation, fault, times=None)

    pushed = stand.push(name, content)

    assert pushed.status_code == 201, pushed.text
    assert stand.pull(name, content).content == content


def test_a_completion_that_is_a_lie_is_no_201(stand, name):
    content = secrets.token_bytes(_LARGE)
    stand.proxy.on("CompleteMultipartUpload", _FORGOTTEN)

    refused = stand.push(name, content)

    require_clear(refused)
    assert stand.pull(name, content).status_code == 404


@pytest.mark.parametrize("at", [0, 1, 70_000, 5 * _MIB])
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_read_that_breaks_off_goes_on_where_it_stopped(stand, name, at, ending):
    content = secrets.token_bytes(_LARGE)
    assert stand.push(name, content).status_code == 201
    stand.proxy.log.clear()
    stand.proxy.on("GetObject", s3_faults.short(at, ending), times=2)

    pulled = stand.pull(name, content)

    assert pulled.content == content
    assert stand.proxy.count("GetObject") == 3
    # What was on its way is asked for again, and no more.
    assert sum(entry.sent for entry in stand.proxy.log) < _LARGE + 4 * _MIB


@pytest.mark.parametrize("fault", [_BUSY, _BROKEN, _SKEWED, _LOST], ids=_id)
def test_a_read_that_never_works_is_no_empty_blob(stand, name, fault):
    content = secrets.token_bytes(_SMALL)
    assert stand.push(name, content).status_code == 201
    stand.proxy.on("GetObject", fault, times=None)

    refused = stand.pull(name, content)
    stand.proxy.mend()

    require_clear(refused)
    assert stand.pull(name, content).content == content


def test_a_busy_store_is_asked_five_times_and_no_more(stand, name):
    content = secrets.token_bytes(_LARGE)
    assert stand.push(name, content).status_code == 201
    stand.proxy.log.clear()
    stand.proxy.on("GetObject", _BUSY, times=None)

    require_clear(stand.pull(name, content))

    assert 2 <= stand.proxy.count("GetObject") <= 5


@pytest.mark.soak
def test_a_read_that_stands_still_goes_on(stand, name):
    content = secrets.token_bytes(_LARGE)
    assert stand.push(name, content).status_code == 201
    stand.proxy.on("GetObject", s3_faults.short(5 * _MIB, "hang"))

    assert stand.pull(name, content).content == content


@pytest.mark.soak
def test_a_write_that_stands_still_is_given_up(stand, name):
    stand.proxy.on("PutObject", s3_faults.lost_answer("hang"), times=None)
    stand.client.http.timeout = 900

    pushed = stand.push(name, content := secrets.token_bytes(_SMALL))

    assert pushed.status_code == 201  # it is there, as a look at it tells
    assert stand.pull(name, content).content == content


def test_what_is_seen_late_is_there_once_it_is_confirmed(stand, name):
    stand.proxy.lag = Lag(3, seed=1)
    contents = [secrets.token_bytes(size) for size in (1_000, _SMALL, 6 * _MIB, _LARGE) * 2]

    for content in contents:
        assert stand.push(name, content).status_code == 201
    for content in contents:
        assert stand.pull(name, content).content == content
    for content in contents[:4]:
        path = f"/v2/{name}/blobs/{digest_of(content)}"
        assert stand.client.request("DELETE", path).status_code == 202
        assert stand.pull(name, content).status_code == 404
        assert stand.push(name, content).status_code == 201
        assert stand.pull(name, content).content == content

    faults = {entry.fault for entry in stand.proxy.log}
    assert "refused 404 NoSuchKey" in faults


def test_nothing_is_left_of_pushes_that_failed(bucket, s3_proxy, data, name):
    settings = settings_of(bucket.behind(s3_proxy.origin))
    with (
        running_server(data, environment=settings) as server,
        standing(server, s3_proxy, bucket) as stand,
    ):
        kept = stand.client.push_image(name)
        objects = objects_of(bucket)
        for operation, fault in LEAVING:
            # Nor can it tidy up at once.
            s3_proxy.on("AbortMultipartUpload", _SKEWED, times=None)
            s3_proxy.on("DeleteObject", _SKEWED, times=None)
            s3_proxy.on(operation, fault, times=None)
            require_clear(stand.push(name, content_for(operation)))
            s3_proxy.mend()
        s3_proxy.on("HeadObject", _BROKEN, times=None)
        require_clear(stand.push(name, secrets.token_bytes(_SMALL)))  # it is there all the same
        s3_proxy.mend()
    assert bucket.unfinished()
    assert len(objects_of(bucket)) > len(objects)

    clock = data / "clock"
    clock.write_text(str(_DAYS))
    environment = {**settings, "TURNED_CLOCK": str(clock)}
    command = (sys.executable, str(_TURNED))
    with (
        running_server(data, environment=environment, command=command) as server,
        standing(server, s3_proxy, bucket) as stand,
    ):
        eventually(lambda: not bucket.unfinished(), missing="uploads in parts are left")
        eventually(lambda: objects_of(bucket) == objects, missing="objects are left")
        assert stand.client.request("GET", f"/v2/{name}/manifests/{kept}").status_code == 200
    check_invariants(
        f"sqlite:///{data / 'entrepot.db'}", KeptObjects(bucket, "registry/"), late_seconds=_DAYS
    )


def objects_of(bucket):
    return KeptObjects(bucket, "registry/").objects()
