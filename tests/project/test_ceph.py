"""The S3 server of the tests is a real one, and each test run's own."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.support.ceph import running_ceph
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow

_KILLED = """
import os
from tests.support.ceph import running_ceph
with running_ceph() as server:
    print(server.endpoint, flush=True)
    os.kill(os.getpid(), 9)
"""


def code_of(refused: ClientError) -> str:
    return refused.response["Error"]["Code"]


def test_a_bucket_keeps_what_is_put_and_tells_what_it_keeps(bucket):
    bucket.client().put_object(Bucket=bucket.name, Key="ab/key", Body=b"content")

    assert bucket.objects() == {"ab/key": 7}
    assert bucket.unfinished() == []


def test_a_wrong_key_is_refused(bucket):
    stranger = replace(bucket, server=replace(bucket.server, secret_access_key="wrong"))

    with pytest.raises(ClientError) as refused:
        stranger.client().put_object(Bucket=bucket.name, Key="key", Body=b"content")

    assert code_of(refused.value) == "SignatureDoesNotMatch"


def test_parts_have_their_least_size_and_unfinished_uploads_are_listed(bucket):
    client = bucket.client()
    upload = client.create_multipart_upload(Bucket=bucket.name, Key="key")["UploadId"]
    of_it = {"Bucket": bucket.name, "Key": "key", "UploadId": upload}
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**of_it, PartNumber=n, Body=b"x")["ETag"]}
        for n in (1, 2)
    ]

    with pytest.raises(ClientError) as refused:
        client.complete_multipart_upload(**of_it, MultipartUpload={"Parts": parts})

    assert code_of(refused.value) == "EntityTooSmall"
    assert bucket.unfinished() == ["key"]


def test_signatures_stay_right_through_the_proxy(bucket, s3_proxy):
    behind = bucket.behind(s3_proxy.origin)
    client = behind.client()
    content = os.urandom(300_000)

    client.put_object(Bucket=bucket.name, Key="ab/a key+more", Body=content)
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": bucket.name, "Key": "ab/a key+more"}
    )
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": "bytes=5-9"})
    answer = connection.getresponse()

    assert (answer.status, answer.read()) == (206, content[5:10])
    connection.close()
    assert behind.objects() == {"ab/a key+more": 300_000}
    assert [entry.operation for entry in s3_proxy.log] == [
        "PutObject",
        "GetObject",
        "ListObjectsV2",
    ]


def test_two_stand_side_by_side(object_server):
    with running_ceph() as other:
        there = other.new_bucket()
        here = object_server.new_bucket()
        here.client().put_object(Bucket=here.name, Key="key", Body=b"content")

        assert there.objects() == {}
        with pytest.raises(ClientError):
            replace(here, server=replace(object_server, endpoint=other.endpoint)).objects()
    assert here.objects() == {"key": 7}


def test_nothing_of_it_outlives_a_test_run_that_is_killed():
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", _KILLED],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

        address = urlsplit(done.stdout.strip())
        eventually(lambda: not is_listening(address.hostname, address.port))


def is_listening(host, port):
    try:
        socket.create_connection((host, port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True
