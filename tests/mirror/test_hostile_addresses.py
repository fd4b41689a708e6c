"""Addresses that this server must not reach: refused when saved and when connected to."""

import pytest

from tests.mirror.stand import stood
from tests.support.upstreams import faults
from tests.support.upstreams.silent import Canary, refusing

PATH = "library/app"


@pytest.fixture(scope="module")
def closed_stand(tmp_path_factory):
    """A server as it comes: no private network is allowed."""
    folder = tmp_path_factory.mktemp("closed")
    with stood(folder, ENTREPOT_OUTBOUND__ALLOW="") as running:
        yield running


@pytest.fixture(scope="module")
def canary():
    with Canary().listening() as listening:
        yield listening
    assert listening.visits == 0, listening.heard


@pytest.fixture
def far_canary():
    """Somebody at 127.0.0.2, whom a server that may reach 127.0.0.1 must not reach."""
    with Canary().listening("127.0.0.2") as listening:
        yield listening
    assert listening.visits == 0, listening.heard


ADDRESSES = [
    "http://127.0.0.1:{port}",
    "http://127.1:{port}",
    "http://localhost:{port}",
    "http://localhost.:{port}",
    "http://LOCALHOST:{port}",
    "http://0.0.0.0:{port}",
    "http://0:{port}",
    "http://2130706433:{port}",
    "http://0x7f000001:{port}",
    "http://0x7f.1:{port}",
    "http://0177.0.0.1:{port}",
    "http://127.0.0.1.:{port}",
    "http://[::1]:{port}",
    "http://[::]:{port}",
    "http://[::ffff:127.0.0.1]:{port}",
    "http://[::ffff:7f00:1]:{port}",
    "http://[::127.0.0.1]:{port}",
    "http://[64:ff9b::7f00:1]:{port}",
    "http://[2002:7f00:1::]:{port}",
    "http://[fe80::1]:{port}",
    "http://[fc00::1]:{port}",
    "http://[ff02::1]:{port}",
    "http://10.0.0.1:{port}",
    "http://172.16.0.1:{port}",
    "http://192.168.0.1:{port}",
    "http://100.64.0.1:{port}",
    "http://169.254.169.254",
    "http://[fd00:ec2::254]",
    "http://224.0.0.1:{port}",
    "http://255.255.255.255:{port}",
    "http://198.18.0.1:{port}",
    "http://user@127.0.0.1:{port}",
    "http://example.com@127.0.0.1:{port}",
    "http://127.0.0.1:{port}#@example.com",
    "http://１２７.0.0.1:{port}",  # noqa: RUF001 # full-width digits are the point
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("unchecked", [False, True])
def test_a_private_address_is_refused_when_it_is_saved(closed_stand, canary, address, unchecked):
    url = address.format(port=canary.port)
    body = {"name": "inside", "url": url, "save_unchecked": unchecked}

    refused = closed_stand.admin.post("/organisations/main/upstreams", body)

    assert refused.status_code == 422, refused.text
    assert closed_stand.admin.items("/organisations/main/upstreams") == []


def test_what_is_said_does_not_tell_whether_somebody_listens(closed_stand, canary):
    said = []
    with refusing() as nobody:
        for address in (f"127.0.0.1:{canary.port}", nobody):
            body = {"name": "inside", "url": f"http://{address}"}
            refused = closed_stand.admin.post("/organisations/main/upstreams", body)
            said.append(refused.text.replace(address, "HOST"))

    first, second = said
    assert "ENTREPOT_OUTBOUND__ALLOW" in first
    assert _without_ids(first) == _without_ids(second)


def _without_ids(text):
    import json

    found = json.loads(text)
    return {key: found[key] for key in found if key not in {"request_id", "instance"}}


def test_a_pull_from_a_full_reference_is_guarded_too(closed_stand, canary):
    body = {"path": "x/y", "upstream": {"url": f"127.0.0.1:{canary.port}/library/app"}}

    refused = closed_stand.admin.post("/organisations/main/repositories", body)

    assert refused.status_code == 422, refused.text


def test_ns_is_never_an_address_to_dial(stand, canary):
    answer = stand.admin.http.get(
        f"{stand.registry.url}/v2/library/app/manifests/1",
        params={"ns": f"127.0.0.1:{canary.port}"},
        auth=("x", stand.registry.server.token),
    )

    assert answer.status_code == 404


# Later, by what an allowed upstream answers.


@pytest.fixture
def cache(stand, upstream):
    upstream.put_image(PATH, "1")
    return stand.cache(upstream, PATH, freshness=0)


@pytest.mark.parametrize("host", ["127.0.0.2", "2130706434", "0x7f.2", "[::ffff:127.0.0.2]"])
@pytest.mark.parametrize("kind", ["manifest", "blob", "tags"])
def test_a_redirect_to_a_private_address_is_refused(cache, upstream, far_canary, kind, host):
    place = f"http://{host}:{far_canary.port}/x"
    upstream.script(faults.redirect(place), kind=kind)
    layer = next(iter(upstream.repository(PATH).blobs))
    path = {"manifest": "manifests/1", "blob": f"blobs/{layer}", "tags": "tags/list"}[kind]

    answer = cache.get(path)

    assert answer.status == 502
    assert str(far_canary.port) not in answer.error


def test_the_second_of_two_redirects_is_checked_as_the_first(
    cache, upstream, far_canary, blob_host
):
    place = f"http://127.0.0.2:{far_canary.port}/x"
    blob_host.faults.append(faults.redirect(place))
    upstream.blob_host = blob_host
    layer = next(iter(upstream.repository(PATH).blobs))

    answer = cache.blob(layer)

    assert answer.status == 502


def test_a_realm_at_a_private_address_is_refused(stand, upstream, far_canary):
    upstream.script(
        faults.challenge(f'Bearer realm="http://127.0.0.2:{far_canary.port}/t",service="x"'),
        kind="ping",
    )
    body = {"name": "far", "url": upstream.origin}

    refused = stand.admin.post("/organisations/main/upstreams", body)

    assert refused.status_code == 422, refused.text
