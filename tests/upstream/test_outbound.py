"""The operator's settings for what goes out: certificates, a proxy, event loops."""

import asyncio
import ssl

import pytest
import trustme
from yarl import URL

from entrepot.model.errors import SettingsInvalid, UpstreamDown
from entrepot.upstream.outbound import Outbound
from tests.support.upstreams import ScriptedUpstream
from tests.upstream.conftest import LOOPBACK


async def ask(client: Outbound, url: str) -> int:
    async with client.ask("GET", URL(url), called="the upstream hub") as answer:
        return answer.status


@pytest.fixture
def authority(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


@pytest.fixture
def secure(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ScriptedUpstream(tls=context)
    with server.running():
        yield server


async def test_a_certificate_of_an_unknown_authority_is_refused(broken_tls, client_of, secure):
    with pytest.raises(UpstreamDown, match="ENTREPOT_OUTBOUND__CA_FILE") as raised:
        await ask(client_of(allow=LOOPBACK), f"{secure.origin}/v2/")

    assert raised.value.values["reason"] == "tls"
    assert secure.log.entries == []


async def test_the_operator_can_trust_another_authority(client_of, secure, tmp_path):
    client = client_of(allow=LOOPBACK, ca_file=tmp_path / "ca.pem")

    assert await ask(client, f"{secure.origin}/v2/") == 200


async def test_a_certificate_is_for_the_host_that_was_asked(
    broken_tls, client_of, secure, tmp_path
):
    client = client_of(allow=LOOPBACK, ca_file=tmp_path / "ca.pem")

    with pytest.raises(UpstreamDown, match="certificate"):
        await ask(client, f"https://localhost:{secure.port}/v2/")


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_file_without_certificates_is_noticed_at_the_start(tmp_path, content):
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)

    with pytest.raises(SettingsInvalid, match="CA_FILE"):
        Outbound(ca_file=tmp_path / "ca.pem")


async def test_all_calls_go_through_the_proxy(client_of, upstream):
    client = client_of(allow=LOOPBACK, proxy=upstream.origin)

    assert await ask(client, "http://registry.invalid/v2/") == 200

    assert upstream.log.entries[0].headers["host"] == "registry.invalid"


async def test_a_proxy_that_refuses_to_connect_is_named(client_of, upstream):
    client = client_of(proxy=upstream.origin)

    with pytest.raises(UpstreamDown, match="ENTREPOT_OUTBOUND__PROXY"):
        await ask(client, "https://registry.invalid/v2/")


async def test_a_proxy_that_is_not_there_is_named(client_of):
    client = client_of(proxy="http://127.0.0.1:9")

    with pytest.raises(UpstreamDown, match="ENTREPOT_OUTBOUND__PROXY"):
        await ask(client, "http://registry.invalid/v2/")


async def test_variables_of_the_environment_name_no_proxy(client_of, upstream, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert await ask(client_of(allow=LOOPBACK), f"{upstream.origin}/v2/") == 200


def test_each_event_loop_has_its_own_connections(upstream):
    client = Outbound(allow=LOOPBACK)

    async def twice() -> None:
        for _ in range(2):
            assert await ask(client, f"{upstream.origin}/v2/") == 200
        await client.close()

    asyncio.run(twice())
    asyncio.run(twice())


async def test_after_closing_it_opens_again(client_of, upstream):
    client = client_of(allow=LOOPBACK)
    await ask(client, f"{upstream.origin}/v2/")
    await client.close()
    await client.close()

    assert await ask(client, f"{upstream.origin}/v2/") == 200
