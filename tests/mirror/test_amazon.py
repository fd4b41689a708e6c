"""ECR through a whole server: what is asked of AWS when, and what is said where AWS denies it."""

import json

import pytest

from entrepot.model.clock import SECOND
from tests.mirror.managed import UPSTREAMS, Managed
from tests.support.server import digest_of
from tests.support.upstreams.aws import Aws, EcrRegistry

pytestmark = pytest.mark.slow  # each of AWS's answers takes a while

NAME = "team/app"
GET_TOKEN = "ecr:GetAuthorizationToken"
ASSUME = "sts:AssumeRole"
MINUTES = 60


@pytest.fixture
def database_url(sqlite_path):
    return f"sqlite:///{sqlite_path}"


@pytest.fixture
def aws(turned, monkeypatch):
    """AWS, at the registry's time."""
    with Aws().running() as server:
        server.lead_here(monkeypatch)
        server.now = lambda: turned.clock.time / SECOND
        server.check_permissions()
        yield server


@pytest.fixture
def ecr(aws):
    with EcrRegistry(aws).running() as server:
        server.put_image(NAME, "1", layers=[20_000])
        server.put_image(NAME, "2")
        server.put_image(NAME, "3")
        yield server


@pytest.fixture
def api(turned):
    return Managed(turned)


def new(ecr, key, role=""):
    keys = {"access_key_id": key[0], "secret_access_key": key[1]}
    credential = {"kind": "ecr", **keys, **({"role_arn": role} if role else {})}
    return {"name": "ecr", "url": ecr.origin, "preset": "ecr", "credential": credential}


async def test_a_role_is_assumed_pulled_with_and_assumed_again_before_its_session_ends(
    turned, api, aws, ecr
):
    organisation = (await api.made("GET", "organisations/main"))["id"]
    external_id = f"entrepot-{organisation}"
    key = aws.add_user("node", ASSUME)
    body = new(ecr, key, aws.add_role("puller", external_id, GET_TOKEN))

    saved = await api.made("POST", UPSTREAMS, body)
    assert (saved["is_checked"], saved["external_id"]) == (True, external_id)
    cache = await api.cache("ecr", NAME)
    aws.calls.clear()
    manifest = await cache.manifest("1")
    layer = json.loads(manifest.content)["layers"][0]["digest"]
    blob = await cache.get(f"blobs/{layer}")

    assert (manifest.status_code, digest_of(blob.content)) == (200, layer)
    assert {entry.authorization for entry in ecr.s3.log.entries} == {""}
    assert aws.calls == []  # the password of the creation is good
    turned.turn(56 * MINUTES)  # a session lasts for 60
    assert (await cache.manifest("2")).status_code == 200
    assert [call.action for call in aws.calls] == ["AssumeRole", "GetAuthorizationToken"]
    assert (await cache.manifest("3")).status_code == 200
    assert len(aws.calls) == 2
    assert 403 not in {entry.status for entry in ecr.log.entries}
    for server in (ecr, ecr.s3):
        assert not server.log.told(key[1])


async def test_an_action_that_is_denied_is_named_wherever_it_shows(turned, api, aws, ecr):
    key, powerless = aws.add_user("reader", GET_TOKEN), aws.add_user("powerless")
    theirs = aws.add_role("theirs", "entrepot-of-another", GET_TOKEN)

    no_token = await api.refused("POST", UPSTREAMS, new(ecr, powerless))
    no_role = await api.refused("POST", UPSTREAMS, new(ecr, aws.add_user("b", ASSUME), theirs))
    assert (await api.made("GET", UPSTREAMS))["items"] == []
    saved = await api.made("POST", UPSTREAMS, new(ecr, key))
    at = f"upstreams/{saved['id']}"
    cache = await api.cache("ecr", NAME)
    rotated = await api.refused("PATCH", at, {"credential": new(ecr, powerless)["credential"]})
    assert (await cache.manifest("1")).status_code == 200  # with the old one
    turned.turn(11 * 60 * MINUTES + 1)  # a password lasts for 12 hours
    aws.break_next(2, 400, "AccessDeniedException")
    cold = await cache.manifest("2")
    checked = await api.made("POST", f"{at}/check", {})
    healed = await api.made("POST", f"{at}/check", {})
    turned.turn(6)  # a refusal is remembered for 5 seconds
    after = await cache.manifest("2")

    for sentence in (no_token, rotated, cold.text, checked["check_error"]):
        assert f"the action {GET_TOKEN}; add it to the policy" in sentence
    assert ASSUME in no_role
    assert "external id" in no_role
    assert cold.status_code == 502
    assert (healed["check_error"], after.status_code) == (None, 200)
