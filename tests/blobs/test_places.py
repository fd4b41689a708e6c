"""Places and refusals of object stores, as text."""

import pytest

from entrepot.blobs.objects_faults import Refusal, meant_by, read_refusal
from entrepot.blobs.objects_place import Place
from entrepot.blobs.objects_send import MIB, part_bytes
from entrepot.model.errors import ObjectMissing, StorageFailed, Unavailable

_GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("bucket", "endpoint", "expected"),
    [
        ("images", None, True),
        ("my.images", None, False),
        ("images", "https://images.t3.storage.dev", True),
        ("images", "https://t3.storage.dev", False),
        ("images", "http://127.0.0.1:9000", False),
        ("images.example.com", "https://images.example.com", True),
        ("images", "https://images-elsewhere.example.com", False),
    ],
)
def test_an_endpoint_that_begins_with_the_bucket_needs_no_bucket_in_the_path(
    bucket, endpoint, expected
):
    assert Place("s3", bucket, endpoint=endpoint).is_virtual_hosted is expected


def test_a_place_shows_no_secret():
    assert "hunter2" not in repr(Place("s3", "images", secret_access_key="hunter2"))


@pytest.mark.parametrize(
    ("length", "part"),
    [(0, 5), (1, 5), (9_000 * 5 * MIB, 5), (9_000 * 5 * MIB + 1, 6), (500 * _GIB, 57)],
)
def test_parts_are_no_larger_than_they_have_to_be(length, part):
    assert part_bytes(length) == part * MIB
    assert length <= part * MIB * 9_000


def _said(status: int, code: str = "", message: str = "") -> Exception:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""
    return Exception(
        "Generic S3 error: Error performing PUT http://10.0.0.1/b/x in 2ms - "
        f"Server returned non-2xx status code: {status} X: {body}\n\nDebug source:\nsecret"
    )


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (_said(404, "NoSuchKey"), ObjectMissing),
        (_said(404, "BlobNotFound"), ObjectMissing),
        (FileNotFoundError(_said(404, "NoSuchKey")), ObjectMissing),
        (_said(404), StorageFailed),
        (FileNotFoundError("Object at location x not found"), StorageFailed),
        (_said(416, "InvalidRange"), ObjectMissing),
        (_said(404, "NoSuchBucket"), StorageFailed),
        (_said(403, "AccessDenied"), StorageFailed),
        (_said(400, "EntityTooSmall"), StorageFailed),
        (_said(500, "InternalError"), Unavailable),
        (_said(503, "SlowDown"), Unavailable),
        (_said(429, "TooManyRequests"), Unavailable),
        (Exception("Generic S3 error: error sending request"), Unavailable),
    ],
)
def test_what_a_store_says_has_one_meaning(error, meaning):
    assert type(meant_by(error, "store an object")) is meaning


def test_the_words_of_a_store_go_to_the_log_without_what_obstore_knows_besides():
    refusal = read_refusal(_said(403, "AccessDenied", "no right to do so"))

    assert refusal == Refusal(403, "AccessDenied", "403 AccessDenied: no right to do so")
    assert "10.0.0.1" not in meant_by(_said(403), "store an object").message
