"""The operator's settings for what goes out: certificates, a proxy, event loops."""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress

import pytest
import trustme
from yarl import URL

from entrepot.model.errors import SettingsInvalid, UpstreamDown
from entrepot.upstream.outbound import Outbound
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
    """Answers 200 to each request over TLS; its origin.

    With blocking sockets: asyncio leaves a connection whose handshake failed to the garbage.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with (
                accepted,
                suppress(OSError),
                context.wrap_socket(accepted, server_side=True) as tls,
            ):
                tls.recv(10_000)
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def test_a_certificate_of_an_unknown_authority_is_refused(client_of, secure):
    with pytest.raises(UpstreamDown, match="ENTREPOT_OUTBOUND__CA_FILE") as raised:
        await ask(client_of(allow=LOOPBACK), f"{secure}/v2/")

    assert raised.value.values["reason"] == "tls"


async def test_the_operator_can_trust_another_authority(client_of, secure, tmp_path):
    client = client_of(allow=LOOPBACK, ca_file=tmp_path / "ca.pem")

    assert await ask(client, f"{secure}/v2/") == 200


async def test_a_certificate_is_for_the_host_that_was_asked(client_of, secure, tmp_path):
    client = client_of(allow=LOOPBACK, ca_file=tmp_path / "ca.pem")

    with pytest.raises(UpstreamDown, match="certificate"):
        await ask(client, secure.replace("127.0.0.1", "localhost"))


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


async def test_a_proxy_may_want_a_password_which_goes_no_further(client_of, upstream):
    proxy = upstream.origin.replace("http://", "http://operator:secret@")

    assert await ask(client_of(proxy=proxy), "http://registry.invalid/v2/") == 200

    headers = upstream.log.entries[0].headers
    assert headers["proxy-authorization"] == "Basic b3BlcmF0b3I6c2VjcmV0"
    assert "authorization" not in headers


async def test_every_call_says_through_whom_it_goes(client_of, upstream):
    await ask(client_of(allow=LOOPBACK, pseudonym="entrepot-1"), f"{upstream.origin}/v2/")

    assert upstream.log.entries[0].headers["via"] == "1.1 entrepot-1"
