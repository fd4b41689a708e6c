"""An object that the store lost or changed: noted by whoever pulls it, mended by the next push."""

import secrets

import httpx
import pytest

from tests.faults.test_object_faults import settings_of, standing
from tests.support.eventually import eventually
from tests.support.forked_command import run_forked
from tests.support.s3_proxy import S3Proxy
from tests.support.server import digest_of, running_server

pytestmark = pytest.mark.slow

SIZE = 3_000_000  # of which the first piece is a part
NO_COPIES, COPIES = "0", "64MiB"


@pytest.fixture(scope="module", params=[NO_COPIES, COPIES], ids=["no copies", "copies"])
def stand(request, object_server, tmp_path_factory):
    bucket = object_server.new_bucket()
    data = tmp_path_factory.mktemp("stand") / "data"
    with S3Proxy(object_server.endpoint).running() as proxy:
        settings = settings_of(bucket.behind(proxy.origin))
        settings["ENTREPOT_BLOBS__CACHE_BYTES"] = request.param
        with (
            running_server(data, environment=settings) as server,
            standing(server, proxy, bucket) as made,
        ):
            yield made


def stored(stand, name, content):
    """Push a blob; the name of its object in the bucket."""
    before = set(stand.bucket.objects())
    assert stand.push(name, content).status_code == 201
    (key,) = set(stand.bucket.objects()) - before
    return key


def head(stand, name, content):
    path = f"/v2/{name}/blobs/{digest_of(content)}"
    return stand.client.request("HEAD", path).status_code


def scrub(stand):
    settings = settings_of(stand.bucket) | {"ENTREPOT_DATA": str(stand.server.data)}
    done = run_forked("admin", "scrub", environment=settings)
    assert done.returncode == 0, done.stderr


def require_mended_by_a_push(stand, name, content):
    eventually(lambda: head(stand, name, content) == 404, missing="the damage was not noted")
    assert stand.push(name, content).status_code == 201
    assert stand.pull(name, content).content == content
    assert head(stand, name, content) == 200


@pytest.mark.parametrize("range_", [None, "bytes=0-99", f"bytes={SIZE - 10}-"])
def test_a_lost_object_is_a_clear_error_and_the_next_push_mends_it(stand, name, range_):
    content = secrets.token_bytes(SIZE)
    key = stored(stand, name, content)
    stand.bucket.client().delete_object(Bucket=stand.bucket.name, Key=key)

    path = f"/v2/{name}/blobs/{digest_of(content)}"
    headers = {"range": range_} if range_ else {}
    refused = stand.client.request("GET", path, headers=headers)

    assert refused.status_code == 503
    assert refused.json()["errors"][0]["code"] == "UNAVAILABLE"
    require_mended_by_a_push(stand, name, content)


def test_an_object_that_became_shorter_is_a_clear_error_and_mended(stand, name):
    content = secrets.token_bytes(SIZE)
    key = stored(stand, name, content)
    stand.bucket.client().put_object(Bucket=stand.bucket.name, Key=key, Body=content[:-1])

    assert stand.pull(name, content).status_code == 503

    require_mended_by_a_push(stand, name, content)


@pytest.mark.parametrize("stand", [COPIES], indirect=True)
def test_other_bytes_in_its_place_are_never_a_whole_answer_and_mended(stand, name):
    content = secrets.token_bytes(SIZE)
    key = stored(stand, name, content)
    changed = content[:-1] + bytes([content[-1] ^ 1])
    stand.bucket.client().put_object(Bucket=stand.bucket.name, Key=key, Body=changed)

    with pytest.raises(httpx.RemoteProtocolError):
        stand.pull(name, content)

    require_mended_by_a_push(stand, name, content)


@pytest.mark.parametrize("stand", [NO_COPIES], indirect=True)
def test_a_known_loss_is_not_looked_for_by_each_who_asks_but_by_scrub(stand, name):
    content = secrets.token_bytes(SIZE)
    key = stored(stand, name, content)
    stand.bucket.client().delete_object(Bucket=stand.bucket.name, Key=key)
    assert stand.pull(name, content).status_code == 503
    eventually(lambda: head(stand, name, content) == 404, missing="the damage was not noted")
    stand.bucket.client().put_object(Bucket=stand.bucket.name, Key=key, Body=content)
    stand.proxy.log.clear()

    assert stand.pull(name, content).status_code == 503
    assert head(stand, name, content) == 404
    assert stand.proxy.count("GetObject") == 0
    scrub(stand)

    assert stand.pull(name, content).content == content
    assert head(stand, name, content) == 200
