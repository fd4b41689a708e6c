"""Docker Hub, Google and Azure, step by step, against servers that refuse what they refuse."""

import asyncio

import pytest

from entrepot.model.clock import HOUR, MINUTE, SECOND
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    FieldInvalid,
    UpstreamBusy,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamRefused,
)
from entrepot.model.upstreams import AzureAuth, BasicAuth, Challenge, GoogleAuth, Handshake
from entrepot.upstream.probe import probe
from entrepot.upstream.remote import full_path
from tests.support.upstreams import faults
from tests.support.upstreams.azure import ContainerRegistry, Entra
from tests.support.upstreams.docker_hub import DockerHub
from tests.support.upstreams.google import ArtifactRegistry

LIMIT = 4 << 20


@pytest.fixture
def hub(clock):
    server = DockerHub()
    server.realm.now = lambda: clock.time / SECOND
    server.put_image("library/redis", "latest", layers=[50_000])
    server.put_image("me/secret", "v1")
    server.private["me/secret"] = "me"
    server.add_person("me", "dckr_pat_secret")
    with server.running():
        yield server


@pytest.fixture
def artifacts(clock):
    server = ArtifactRegistry()
    server.realm.now = lambda: clock.time / SECOND
    server.put_image("project/docker/app", "v1", layers=[50_000])
    with server.running():
        yield server


@pytest.fixture
def entra(clock, monkeypatch):
    server = Entra()
    server.now = lambda: clock.time / SECOND
    with server.running():
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", server.origin)
        yield server


@pytest.fixture
def azure(entra):
    server = ContainerRegistry(entra)
    server.put_image("team/app", "v1", layers=[50_000])
    with server.running():
        yield server


async def first_blob(remote, server, name: str) -> bytes:
    digest = next(iter(server.repository(name).blobs))
    async with remote.blob(name, Digest.parse(digest)) as blob:
        return b"".join([piece async for piece in blob.pieces])


# Docker Hub.


async def test_docker_hub_gives_nobody_a_token_for_what_is_public(
    hub, outbound, remote_of, observations
):
    handshake = await probe(
        outbound, hub.origin, BasicAuth("me", "dckr_pat_secret"), "docker-hub", "hub"
    )
    remote = remote_of(hub, None, handshake, "docker-hub")
    path = full_path("docker-hub", "docker.io/redis")

    await remote.head_manifest(path, "latest")
    assert hub.remaining() == 100  # HEAD is free
    await remote.manifest(path, "latest", limit=LIMIT)
    assert hub.remaining() == 99

    assert handshake == Handshake(Challenge.BEARER, hub.auth.url, "registry.docker.io")
    assert (observations[-1].limit, observations[-1].limit_remaining) == (100, 99)
    assert observations[-1].limit_window_seconds == 21600
    with pytest.raises(UpstreamForbidden):
        await remote.manifest("me/secret", "v1", limit=LIMIT)


async def test_docker_hub_blobs_come_from_elsewhere_without_the_token(hub, remote_of):
    remote = remote_of(
        hub,
        BasicAuth("me", "dckr_pat_secret"),
        Handshake(Challenge.BEARER, hub.auth.url, "registry.docker.io"),
        "docker-hub",
    )

    assert await first_blob(remote, hub, "me/secret")

    assert hub.cdn.log.entries[0].authorization == ""
    assert not hub.cdn.log.told("dckr_pat_secret")
    assert not hub.log.told("dckr_pat_secret")  # the password goes to the token service alone


async def test_docker_hub_past_its_limit_has_us_wait(hub, remote_of):
    hub.limits[""] = 1
    remote = remote_of(
        hub, None, Handshake(Challenge.BEARER, hub.auth.url, "registry.docker.io"), "docker-hub"
    )
    await remote.manifest("library/redis", "latest", limit=LIMIT)

    with pytest.raises(UpstreamBusy):
        await remote.manifest("library/redis", "latest", limit=LIMIT)

    assert await remote.head_manifest("library/redis", "latest")


async def test_docker_hub_refuses_a_wrong_password_when_it_is_saved(hub, outbound):
    with pytest.raises(FieldInvalid, match="refuses the credential"):
        await probe(outbound, hub.origin, BasicAuth("me", "wrong"), "docker-hub", "hub")


# Google.


async def test_google_takes_a_key_file_as_a_password(artifacts, outbound, remote_of):
    auth = GoogleAuth(artifacts.add_account("reader@project", "project/docker/app"))
    handshake = await probe(outbound, artifacts.origin, auth, "gar", "gar")
    remote = remote_of(artifacts, auth, handshake, "gar")

    assert await remote.manifest("project/docker/app", "v1", limit=LIMIT)
    assert await first_blob(remote, artifacts, "project/docker/app")
    assert [page async for page in remote.tags("project/docker/app")] == [["v1"]]

    assert handshake.realm == f"{artifacts.origin}/v2/token"
    assert artifacts.log.of(kind="download")[0].authorization.startswith("Bearer ")
    others = [entry for entry in artifacts.log.entries if entry.kind != "token"]
    assert not [entry for entry in others if entry.authorization.startswith("Basic ")]


async def test_google_refuses_a_key_that_was_deleted(artifacts, outbound, remote_of, clock):
    auth = GoogleAuth(artifacts.add_account("reader@project", "project/docker/app"))
    handshake = await probe(outbound, artifacts.origin, auth, "gar", "gar")
    remote = remote_of(artifacts, auth, handshake, "gar")
    await remote.head_manifest("project/docker/app", "v1")
    artifacts.delete_keys()
    clock.advance(HOUR)

    with pytest.raises(UpstreamRefused):
        await remote.head_manifest("project/docker/app", "v1")
    with pytest.raises(FieldInvalid):
        await probe(outbound, artifacts.origin, auth, "gar", "gar")


# Azure.


@pytest.fixture
def principal(entra, azure):
    tenant, client, secret = entra.add_principal()
    azure.roles[client] = {"team/app"}
    return AzureAuth(tenant, client, secret)


async def test_azure_exchanges_a_secret_for_three_tokens(
    entra, azure, principal, outbound, remote_of
):
    handshake = await probe(outbound, azure.origin, principal, "acr", "acr")
    entra.log.clear()
    azure.log.clear()
    remote = remote_of(azure, principal, handshake, "acr")

    await remote.manifest("team/app", "v1", limit=LIMIT)

    assert handshake == Handshake(Challenge.BEARER, f"{azure.origin}/oauth2/token", azure.address)
    (login,) = entra.log.entries
    assert login.path == f"/{principal.tenant}/oauth2/v2.0/token"
    assert login.form["grant_type"] == "client_credentials"
    exchange, token, manifest = azure.log.entries
    assert (exchange.path, exchange.form["grant_type"]) == ("/oauth2/exchange", "access_token")
    assert exchange.form["tenant"] == principal.tenant
    assert (token.path, token.form["grant_type"]) == ("/oauth2/token", "refresh_token")
    assert token.form["scope"] == "repository:team/app:pull"
    assert manifest.status == 200
    assert not azure.log.told(principal.client_secret)


async def test_azure_blobs_and_tags(azure, principal, remote_of):
    handshake = Handshake(Challenge.BEARER, f"{azure.origin}/oauth2/token", azure.address)
    remote = remote_of(azure, principal, handshake, "acr")

    assert await first_blob(remote, azure, "team/app")
    assert azure.storage.log.entries[0].authorization == ""
    assert [page async for page in remote.tags("team/app")] == [["v1"]]
    azure.log.clear()
    assert [page async for page in remote.tags("team/app")] == [["v1"]]
    assert [entry.kind for entry in azure.log.entries] == ["tags"]  # it has learned the right


async def test_azure_tokens_are_renewed_before_they_end(entra, azure, principal, remote_of, clock):
    handshake = Handshake(Challenge.BEARER, f"{azure.origin}/oauth2/token", azure.address)
    remote = remote_of(azure, principal, handshake, "acr")

    def asked():
        return (
            len(entra.log.entries),
            azure.log.count(kind="exchange"),
            azure.log.count(kind="token"),
        )

    await asyncio.gather(*(remote.head_manifest("team/app", "v1") for _ in range(10)))
    assert asked() == (1, 1, 1)

    clock.advance(74 * MINUTE)
    await remote.head_manifest("team/app", "v1")
    assert asked() == (1, 1, 1)

    clock.advance(MINUTE)  # an access token lives for 75
    await remote.head_manifest("team/app", "v1")
    assert asked() == (1, 1, 2)

    clock.advance(2 * HOUR)  # a refresh token lives for three hours
    await remote.head_manifest("team/app", "v1")
    assert asked() == (2, 2, 3)
    assert {entry.status for entry in azure.log.of(kind="manifest")} == {200}


async def test_azure_refuses_a_wrong_secret(azure, principal, outbound):
    wrong = AzureAuth(principal.tenant, principal.client_id, "wrong")
    unknown = AzureAuth("../evil", principal.client_id, principal.client_secret)

    for auth in (wrong, unknown):
        with pytest.raises(FieldInvalid) as raised:
            await probe(outbound, azure.origin, auth, "acr", "acr")
        assert raised.value.values["field"] == "credential"


async def test_azure_may_fail_at_each_step(entra, azure, principal, remote_of):
    handshake = Handshake(Challenge.BEARER, f"{azure.origin}/oauth2/token", azure.address)
    remote = remote_of(azure, principal, handshake, "acr")

    for kind in ("exchange", "token"):
        rule = azure.script(faults.status(503), kind=kind)
        with pytest.raises(UpstreamDown):
            await remote.head_manifest("team/app", "v1")
        azure.heal(rule)
    entra.stop()
    assert await remote.head_manifest("team/app", "v1")
    entra.start()
