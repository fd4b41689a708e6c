"""Azure through a whole server: three tokens, each renewed in time, and what is said of a no."""

import json

import pytest

from entrepot.model.clock import SECOND
from tests.mirror.managed import UPSTREAMS, Managed
from tests.support.server import digest_of
from tests.support.upstreams.azure import ContainerRegistry, Entra

NAME = "team/app"
MINUTES = 60


@pytest.fixture
def database_url(sqlite_path):
    return f"sqlite:///{sqlite_path}"


@pytest.fixture
def entra(turned, monkeypatch):
    server = Entra()
    server.now = lambda: turned.clock.time / SECOND
    with server.running():
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", server.origin)
        yield server


@pytest.fixture
def azure(entra):
    with ContainerRegistry(entra).running() as server:
        for tag in "12345":
            server.put_image(NAME, tag, layers=[20_000])
        yield server


@pytest.fixture
def api(turned):
    return Managed(turned)


@pytest.fixture
def principal(entra, azure):
    """What a service principal signs in with; it may pull."""
    tenant, client, secret = entra.add_principal()
    azure.roles[client] = {NAME}
    return {"kind": "azure", "tenant": tenant, "client_id": client, "client_secret": secret}


def new(azure, credential):
    return {"name": "acr", "url": azure.origin, "preset": "acr", "credential": credential}


async def test_a_principal_pulls_and_each_token_is_renewed_before_its_end(
    turned, api, entra, azure, principal
):
    saved = await api.made("POST", UPSTREAMS, new(azure, principal))
    assert saved["realm"] == f"{azure.origin}/oauth2/token"
    cache = await api.cache("acr", NAME)

    def asked():
        found = len(entra.log.entries), azure.log.count(kind="exchange")
        entra.log.clear()
        tokens = azure.log.count(kind="token")
        azure.log.clear()
        return *found, tokens

    asked()
    manifest = await cache.manifest("1")
    layer = json.loads(manifest.content)["layers"][0]["digest"]
    blob = await cache.get(f"blobs/{layer}")
    assert (manifest.status_code, digest_of(blob.content)) == (200, layer)
    assert {entry.authorization for entry in azure.storage.log.entries} == {""}
    assert asked() == (0, 0, 1)  # the sign-in of the creation is good; this is a right to pull

    for tag, minutes, wanted in (("2", 74, (0, 0, 0)), ("3", 1, (0, 0, 1)), ("4", 120, (1, 1, 1))):
        turned.turn(minutes * MINUTES)  # an access token lasts for 75, a sign-in for 180
        assert (await cache.manifest(tag)).status_code == 200
        assert {entry.status for entry in azure.log.of(kind="manifest")} == {200}
        assert asked() == wanted, tag
    assert not azure.log.told(principal["client_secret"])


async def test_a_secret_that_is_wrong_or_ended_is_said_and_replaced(
    turned, api, entra, azure, principal
):
    wrong = await api.refused("POST", UPSTREAMS, new(azure, {**principal, "client_secret": "no"}))
    assert (await api.made("GET", UPSTREAMS))["items"] == []
    saved = await api.made("POST", UPSTREAMS, new(azure, principal))
    at = f"upstreams/{saved['id']}"
    cache = await api.cache("acr", NAME)
    entra.secrets[principal["tenant"], principal["client_id"]] = "renewed"
    turned.turn(181 * MINUTES)

    cold = await cache.manifest("1")
    checked = await api.made("POST", f"{at}/check", {})
    changes = {"credential": {**principal, "client_secret": "renewed"}}
    rotated = await api.made("PATCH", at, changes)
    turned.turn(6)  # a refusal is remembered for 5 seconds
    after = await cache.manifest("1")

    for sentence in (wrong, cold.text, checked["check_error"]):
        assert "refuses the credential (401)" in sentence
    assert "nothing was saved" in wrong
    assert (cold.status_code, "entrepot upstream rotate acr" in cold.text) == (502, True)
    assert (rotated["check_error"], after.status_code) == (None, 200)


async def test_a_principal_that_lost_its_role_is_told_what_to_look_at(
    api, azure, principal, turned
):
    await api.made("POST", UPSTREAMS, new(azure, principal))
    cache = await api.cache("acr", NAME)
    azure.roles.clear()
    turned.turn(76 * MINUTES)

    cold = await cache.manifest("1")

    assert cold.status_code == 403
    assert "check the path, and what its credential may read" in cold.text
