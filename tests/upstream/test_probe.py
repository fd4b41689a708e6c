"""What saving an upstream finds out, and each sentence for what can be wrong."""

import asyncio
import json
import re

import pytest

from entrepot.model.errors import (
    FieldInvalid,
    UpstreamBusy,
    UpstreamDown,
    UpstreamSlow,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import (
    BasicAuth,
    BearerAuth,
    Challenge,
    GoogleAuth,
    Handshake,
    NoAuth,
)
from entrepot.upstream.origins import Origin
from entrepot.upstream.probe import probe
from entrepot.upstream.realms import require_own_realm
from tests.support.upstreams import BasicLogin, Realm, RealmServer, faults, realm_of

AUTH = BasicAuth("reader", "secret")


@pytest.fixture
def check(outbound):
    async def run(server, auth=None, client=None) -> Handshake:
        origin = server if isinstance(server, str) else server.origin
        return await probe(client or outbound, origin, auth or NoAuth(), "custom", "hub")

    return run


@pytest.fixture
def private(token_upstream):
    realm = realm_of(token_upstream)
    realm.people["reader"] = "secret"
    realm.anonymous = False
    return token_upstream


def challenge_of(server):
    return faults.challenge(f'Bearer realm="{server.origin}/token",service="registry.test"')


async def refusal(awaitable, field: str) -> str:
    with pytest.raises(FieldInvalid) as raised:
        await awaitable
    assert raised.value.values["field"] == field
    assert "secret" not in raised.value.message
    return raised.value.message


# What is fine.


async def test_a_registry_that_asks_nobody(check, upstream):
    assert await check(upstream) == Handshake(Challenge.NONE)


async def test_a_registry_that_wants_a_password(check, upstream):
    upstream.login = BasicLogin({"reader": "secret"})

    assert await check(upstream, AUTH) == Handshake(Challenge.BASIC)
    assert upstream.log.entries[0].authorization == ""  # nothing is sent before it is asked for


async def test_a_registry_with_a_token_service(check, private):
    expected = Handshake(Challenge.BEARER, f"{private.origin}/token", "registry.test")

    assert await check(private, AUTH) == expected
    assert await check(private) == expected  # nobody can prove nothing
    assert private.log.of(kind="token")[0].query == {"service": ["registry.test"]}


async def test_a_registry_that_takes_a_token_as_it_is(check, upstream):
    upstream.script(faults.challenge(f'Bearer realm="{upstream.origin}/token"'), times=1)

    assert (await check(upstream, BearerAuth("own"))).challenge is Challenge.BEARER
    assert upstream.log.entries[-1].authorization == "Bearer own"


async def test_bearer_counts_where_both_are_offered(check, upstream):
    lines = ['Basic realm="x"', f'Bearer realm="{upstream.origin}/token",service="s"']
    upstream.script(faults.challenge(*lines))

    assert await check(upstream) == Handshake(Challenge.BEARER, f"{upstream.origin}/token", "s")


# What is wrong.


async def test_a_wrong_password(check, private, upstream):
    upstream.login = BasicLogin({"reader": "other"})

    assert "refuses the credential" in await refusal(
        check(private, BasicAuth("reader", "no")), "credential"
    )
    assert "refuses the credential" in await refusal(check(upstream, AUTH), "credential")


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_token_service_that_refuses(check, private, status):
    private.script(faults.status(status), kind="token")

    assert "give one that may read" in await refusal(check(private, AUTH), "credential")


async def test_a_registry_that_does_not_take_its_own_token(check, private):
    private.script(challenge_of(private), kind="ping")

    assert "refuses the credential (401)" in await refusal(check(private, AUTH), "credential")


async def test_nobody_where_a_password_is_wanted(check, upstream):
    upstream.login = BasicLogin({})

    assert "user name and password" in await refusal(check(upstream), "credential")


async def test_a_name_that_nobody_has(check):
    assert "without an address" in await refusal(check("https://no-such-host.invalid"), "url")


async def test_an_address_that_must_not_be_reached(check, client_of, upstream):
    message = await refusal(check(upstream, client=client_of()), "url")

    assert "ENTREPOT_OUTBOUND__ALLOW" in message
    assert upstream.log.entries == []


async def test_https_where_only_http_is_spoken(check):
    async def talk(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        origin = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert "give its address with http://" in await refusal(check(origin), "url")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (faults.status(404), "is not a registry"),
        (faults.html, "is not a registry: .* a web page"),
        (faults.status(403), "firewall"),
        (faults.status(204), "is not a registry"),
        (faults.redirect("https://elsewhere.example/v2/"), "leads to another address"),
        (faults.challenge(), "does not say which"),
        (faults.challenge("Negotiate", 'Digest realm="x"'), "does not say which"),
        (faults.headers(X_Long="x" * 100_000), "not HTTP"),
    ],
)
async def test_what_is_no_registry(check, upstream, fault, words):
    upstream.script(fault)

    assert re.search(words, await refusal(check(upstream, AUTH), "url"))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(500), UpstreamDown),
        (faults.status(503), UpstreamDown),
        (faults.status(429, retry_after=5), UpstreamBusy),
        (faults.hangs("headers"), UpstreamSlow),
        (faults.reset(0), None),
    ],
)
async def test_what_may_be_otherwise_tomorrow_is_no_fault_of_a_field(
    check, impatient, upstream, fault, error
):
    upstream.script(fault)

    if error is None:
        assert await check(upstream, client=impatient)
        return
    with pytest.raises(error):
        await check(upstream, client=impatient)


async def test_a_port_where_nobody_listens_may_be_otherwise_tomorrow(check, upstream):
    upstream.stop()

    with pytest.raises(UpstreamDown):
        await check(upstream)

    upstream.start()


@pytest.mark.parametrize("phase", ["token", "ping"])
async def test_a_token_service_that_fails_may_do_better_tomorrow(check, private, phase):
    private.script(challenge_of(private), kind="ping", times=1)
    private.script(faults.status(503), kind=phase)

    with pytest.raises(UpstreamDown):
        await check(private, AUTH)


async def test_a_token_service_elsewhere_is_refused_before_it_learns_anything(check, upstream):
    server = RealmServer(Realm(), host="127.0.0.2")
    with server.running():
        upstream.script(faults.challenge(f'Bearer realm="{server.url}",service="s"'))

        message = await refusal(check(upstream, AUTH), "url")

    assert "another domain (127.0.0.2)" in message
    assert server.log.entries == []


async def test_a_token_service_on_another_port_is_pinned(check, upstream, private):
    upstream.script(
        faults.challenge(f'Bearer realm="{private.origin}/token",service="registry.test"'), times=1
    )

    assert (await check(upstream, AUTH)).realm == f"{private.origin}/token"


async def test_what_is_no_key_file_is_not_repeated(check, upstream):
    message = await refusal(check(upstream, GoogleAuth('{"type": "secret"}')), "credential")

    assert "gcloud" in message
    assert upstream.log.entries == []


async def test_a_key_file_is_taken(check, upstream):
    key = {"type": "service_account", "client_email": "a@b", "private_key": "x"}

    assert await check(upstream, GoogleAuth(json.dumps(key)))


async def test_a_user_name_with_a_colon(check, upstream):
    assert "colon" in await refusal(check(upstream, BasicAuth("a:b", "c")), "credential")


# Which token services are a registry's own.

OWN = [
    ("https://registry-1.docker.io", "docker-hub", "https://auth.docker.io/token"),
    ("https://registry.gitlab.com", "gitlab", "https://gitlab.com/jwt/auth"),
    ("https://ghcr.io", "ghcr", "https://ghcr.io/token"),
    ("https://registry.example.com", "custom", "https://auth.example.com:8443/token"),
    ("https://registry.example.co.uk", "custom", "https://example.co.uk/token"),
    ("https://registry.example.com", "custom", "https://registry.example.com/token?x=y"),
    ("http://127.0.0.1:5000", "custom", "http://127.0.0.1:5001/token"),
    ("http://registry.example.com", "custom", "https://registry.example.com/token"),
]
NOT_OWN = [
    ("https://registry.example.com", "custom", "https://auth.docker.io/token"),
    ("https://registry.example.com", "custom", "http://registry.example.com/token"),
    ("https://registry.example.com", "custom", "https://example.com.evil.example/token"),
    ("https://registry.example.com", "custom", "https://evilexample.com/token"),
    ("https://registry.example.co.uk", "custom", "https://other.co.uk/token"),
    ("https://mine.github.io", "custom", "https://yours.github.io/token"),
    ("https://a.s3.amazonaws.com", "custom", "https://b.s3.amazonaws.com/token"),
    ("https://com", "custom", "https://example.com/token"),
    ("https://10.0.0.1", "custom", "https://10.0.0.2/token"),
    ("https://x.example", "docker-hub", "https://auth.docker.io/other"),
    ("https://registry.example.com", "custom", "https://user@registry.example.com/token"),
    ("https://registry.example.com", "custom", "https://registry.example.com/token#x"),
    ("https://registry.example.com", "custom", "//registry.example.com/token"),
    ("https://registry.example.com", "custom", ""),
    ("https://registry.example.com", "custom", "https://registry.example.com/\x07"),
]


@pytest.mark.parametrize(("origin", "preset", "realm"), OWN)
def test_a_registrys_own_token_service(origin, preset, realm):
    require_own_realm(realm, Origin.parse(origin), preset, pinning=True)


@pytest.mark.parametrize(("origin", "preset", "realm"), NOT_OWN)
def test_not_a_registrys_own_token_service(origin, preset, realm):
    with pytest.raises(UpstreamUnsafe):
        require_own_realm(realm, Origin.parse(origin), preset, pinning=True)


def test_a_shared_domain_is_not_enough_without_a_person_who_looks():
    with pytest.raises(UpstreamUnsafe):
        require_own_realm(
            "https://auth.example.com/",
            Origin.parse("https://r.example.com"),
            "custom",
            pinning=False,
        )
