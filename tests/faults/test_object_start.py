"""A store that does not give back what it was given is refused before it has any blob."""

import pytest

from tests.support import s3_faults
from tests.support.kept import KeptObjects
from tests.support.server import running_server

pytestmark = pytest.mark.slow

_MIB = 1 << 20
_FRAMED = b"%x;chunk-signature=0\r\n%b\r\n0;chunk-signature=0\r\n\r\n"


def framed(body):
    """As a store keeps it that takes the frames of a signed stream for content."""
    return _FRAMED % (len(body), body)


def started(data, bucket, proxy):
    """What the server says if it does not start; nothing if it does."""
    try:
        with running_server(data, environment=bucket.behind(proxy.origin).settings("registry")):
            return ""
    except RuntimeError as error:
        return str(error)


def test_a_store_that_works_is_tried_and_left_as_it_was(data, bucket, s3_proxy):
    assert started(data, bucket, s3_proxy) == ""

    operations = {entry.operation for entry in s3_proxy.log}
    assert operations >= {"PutObject", "UploadPart", "CompleteMultipartUpload", "GetObject"}
    assert not bucket.unfinished()
    assert not KeptObjects(bucket, "registry/").objects()


@pytest.mark.parametrize(
    "fault",
    [
        s3_faults.altered(0),
        s3_faults.rewritten(framed),
        s3_faults.rewritten(lambda body: body[:-1]),
    ],
    ids=["one byte", "frames", "shorter"],
)
def test_a_store_that_alters_bytes_is_refused(data, bucket, s3_proxy, fault):
    s3_proxy.on("GetObject", fault, times=None)

    said = started(data, bucket, s3_proxy)

    assert "other bytes" in said


def test_a_store_that_alters_only_what_has_two_parts_is_refused(data, bucket, s3_proxy):
    s3_proxy.on("GetObject", s3_faults.altered(5 * _MIB), times=None)

    said = started(data, bucket, s3_proxy)

    assert "other bytes" in said
