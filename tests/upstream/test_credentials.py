"""T11: a credential goes to its upstream and the pinned token service, and nowhere else."""

import asyncio
import base64

import pytest

from entrepot.model.clock import SECOND
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import BasicAuth, BearerAuth, Challenge, Handshake
from tests.support.upstreams import BasicLogin, ScriptedUpstream, WireServer, faults, realm_of
from tests.support.upstreams.wire import Reply

PASSWORD = "canary-password-1f0c"
AUTH = BasicAuth("reader", PASSWORD)
ENCODED = base64.b64encode(f"reader:{PASSWORD}".encode()).decode()
LIMIT = 4 << 20
BASIC = Handshake(Challenge.BASIC)


def pinned(server: ScriptedUpstream) -> Handshake:
    return Handshake(Challenge.BEARER, f"{server.origin}/token", realm_of(server).service)


class Attacker(WireServer):
    """Answers everything, and writes down what it is given."""

    async def answer(self, _request, _entry):
        return Reply(200, {"Content-Type": "application/json"}, b'{"token": "attacker"}')


@pytest.fixture
def attacker():
    server = Attacker()
    with server.running():
        yield server


@pytest.fixture
def private(token_upstream):
    """An upstream that only `reader` may read."""
    realm = realm_of(token_upstream)
    realm.people["reader"] = PASSWORD
    realm.anonymous = False
    realm.now = lambda: 0.0
    token_upstream.put_image("team/app", "v1", layers=[100_000])
    return token_upstream


def assert_told_nothing(*servers: WireServer) -> None:
    for server in servers:
        for entry in server.log.entries:
            assert entry.authorization == ""
            assert "cookie" not in entry.headers
            assert entry.form == {}
        assert not server.log.told(PASSWORD)
        assert not server.log.told(ENCODED)


# The exchange.


async def test_a_token_is_asked_for_once_and_used_until_it_ends(remote_of, private, clock):
    remote = remote_of(private, AUTH, pinned(private))

    for _ in range(3):
        await remote.head_manifest("team/app", "v1")
    (asked,) = private.log.of(kind="token")
    assert asked.authorization == f"Basic {ENCODED}"
    assert asked.query == {"service": ["registry.test"], "scope": ["repository:team/app:pull"]}
    assert [entry.status for entry in private.log.of(kind="manifest")] == [200] * 3

    clock.advance(289 * SECOND)
    await remote.head_manifest("team/app", "v1")
    assert private.log.count(kind="token") == 1

    clock.advance(SECOND)  # ten seconds before its end
    await remote.head_manifest("team/app", "v1")
    assert private.log.count(kind="token") == 2


async def test_a_token_that_says_no_life_lives_for_a_minute(remote_of, private, clock):
    realm_of(private).life = None
    remote = remote_of(private, AUTH, pinned(private))

    await remote.head_manifest("team/app", "v1")
    clock.advance(49 * SECOND)
    await remote.head_manifest("team/app", "v1")
    assert private.log.count(kind="token") == 1

    clock.advance(SECOND)
    await remote.head_manifest("team/app", "v1")
    assert private.log.count(kind="token") == 2


async def test_a_token_has_lived_since_it_was_issued(remote_of, private, clock):
    date, issued = "Sat, 31 Jan 2026 12:04:00 GMT", '"issued_at": "2026-01-31T12:00:00Z"'
    body = f'{{"token": "t", "expires_in": 300, {issued}}}'.encode()
    private.script(faults.answer(Reply(200, {"Date": date}, body)), kind="token")
    private.script(faults.status(404), kind="manifest")
    remote = remote_of(private, AUTH, pinned(private))

    for seconds in (0, 49, 1):  # 240 of 300 seconds were over
        clock.advance(seconds * SECOND)
        with pytest.raises(UpstreamError):
            await remote.head_manifest("team/app", "v1")

    assert private.log.count(kind="token") == 2


@pytest.mark.parametrize(
    "date",
    [
        "Sat, 31 Jan 99999999999999 12:00:00 GMT",
        "Sat, 31 Jan 2026 12:00:00 +99999999999999",
        "Sat, 31 Jan 2026 99999999999999999999:00:00 GMT",
        "31",
        "",
    ],
)
async def test_a_date_that_is_none_says_nothing_of_a_token(remote_of, private, date):
    private.put_image("team/app", "v1")
    issued = '"issued_at": "2026-01-31T12:00:00Z"'
    body = f'{{"token": "t", "expires_in": 300, {issued}}}'.encode()
    private.script(faults.answer(Reply(200, {"Date": date}, body)), kind="token")
    remote = remote_of(private, AUTH, pinned(private))

    with pytest.raises(UpstreamForbidden):  # that token is not one of the registry's
        await remote.head_manifest("team/app", "v1")


@pytest.mark.parametrize("field", ["token", "access_token"])
async def test_a_token_under_either_name(remote_of, private, field):
    realm_of(private).field_name = field

    assert await remote_of(private, AUTH, pinned(private)).head_manifest("team/app", "v1")


async def test_many_at_once_ask_for_one_token(remote_of, private):
    remote = remote_of(private, AUTH, pinned(private))

    await asyncio.gather(*(remote.head_manifest("team/app", "v1") for _ in range(30)))

    assert private.log.count(kind="token") == 1


async def test_who_leaves_does_not_take_the_token_from_the_others(remote_of, private):
    remote = remote_of(private, AUTH, pinned(private))
    first = asyncio.create_task(remote.head_manifest("team/app", "v1"))
    second = asyncio.create_task(remote.head_manifest("team/app", "v1"))
    await asyncio.sleep(0)
    first.cancel()

    assert await second
    assert private.log.count(kind="token") == 1


async def test_a_token_that_was_taken_back_is_renewed_once(remote_of, private):
    remote = remote_of(private, AUTH, pinned(private))
    await remote.head_manifest("team/app", "v1")
    realm_of(private).revoke_all()

    assert await remote.head_manifest("team/app", "v1")

    assert private.log.count(kind="token") == 2


async def test_what_a_good_token_does_not_open_is_forbidden(remote_of, private):
    realm_of(private).may_read = lambda _user, _name: False

    with pytest.raises(UpstreamForbidden, match="not for us"):
        await remote_of(private, AUTH, pinned(private)).head_manifest("team/app", "v1")

    assert private.log.count(kind="manifest") == 2


async def test_a_wrong_password_is_refused(remote_of, private):
    remote = remote_of(private, BasicAuth("reader", "wrong"), pinned(private))

    with pytest.raises(UpstreamRefused, match="entrepot upstream rotate hub"):
        await remote.head_manifest("team/app", "v1")

    assert private.log.count(kind="manifest") == 0


async def test_nobody_gets_an_anonymous_token_where_it_is_given(remote_of, token_upstream):
    token_upstream.put_image("team/app", "v1")
    remote = remote_of(token_upstream, None, pinned(token_upstream))

    assert await remote.head_manifest("team/app", "v1")
    assert token_upstream.log.of(kind="token")[0].authorization == ""


async def test_nobody_is_told_to_bring_a_credential(remote_of, private):
    with pytest.raises(UpstreamForbidden, match="give the upstream a credential"):
        await remote_of(private, None, pinned(private)).head_manifest("team/app", "v1")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(400), UpstreamBroken),
        (faults.status(401), UpstreamRefused),
        (faults.status(403), UpstreamForbidden),
        (faults.status(404), UpstreamBroken),
        (faults.status(429, retry_after=9), UpstreamBusy),
        (faults.status(500), UpstreamDown),
        (faults.status(503), UpstreamDown),
        (faults.redirect("/token2"), UpstreamBroken),
        (faults.html, UpstreamBroken),
        (faults.gzip, UpstreamBroken),
        (faults.endless, UpstreamBroken),
        (faults.body(b"{}"), UpstreamBroken),
        (faults.body(b"[]"), UpstreamBroken),
        (faults.body(b'{"token": ""}'), UpstreamBroken),
        (faults.body(b'{"token": "a\\r\\nX-Evil: 1"}'), UpstreamBroken),
        (faults.body(b'{"token": "a b"}'), UpstreamBroken),
        (faults.truncated(5), UpstreamDown),
        (faults.hangs("headers"), UpstreamSlow),
        (faults.hangs("body"), UpstreamSlow),
    ],
)
async def test_each_way_in_which_a_token_service_fails(remote_of, impatient, private, fault, error):
    rule = private.script(fault, kind="token")
    remote = remote_of(private, AUTH, pinned(private), client=impatient)

    with pytest.raises(error, match="upstream hub") as raised:
        await remote.head_manifest("team/app", "v1")

    assert type(raised.value) is error
    assert PASSWORD not in str(raised.value.values)
    private.heal(rule)
    assert await remote.head_manifest("team/app", "v1")  # no failure is kept


async def test_a_scope_that_the_registry_names_is_asked_for_if_it_reads(remote_of, private):
    challenge = (
        f'Bearer realm="{private.origin}/token",service="registry.test",'
        'scope="repository:team/app:metadata_read,push,delete,*"'
    )
    private.script(faults.challenge(challenge), kind="tags", times=1)
    remote = remote_of(private, AUTH, pinned(private))

    with pytest.raises(UpstreamForbidden):  # this one wants `pull` after all
        await anext(remote.tags("team/app"))

    scopes = [entry.query["scope"] for entry in private.log.of(kind="token")]
    assert scopes == [["repository:team/app:pull"], ["repository:team/app:metadata_read"]]


@pytest.mark.parametrize("scope", ["repository:other/app:pull", "registry:catalog:*", "x", ""])
async def test_a_scope_for_something_else_is_not_asked_for(remote_of, private, scope):
    challenge = f'Bearer realm="{private.origin}/token",service="registry.test",scope="{scope}"'
    private.script(faults.challenge(challenge), kind="manifest", times=1)

    await remote_of(private, AUTH, pinned(private)).head_manifest("team/app", "v1")

    for entry in private.log.of(kind="token"):
        assert entry.query["scope"] == ["repository:team/app:pull"]


async def test_a_password_goes_with_every_request_to_a_registry_that_wants_basic(
    remote_of, upstream
):
    upstream.put_image("team/app", "v1")
    upstream.login = BasicLogin({"reader": PASSWORD})

    assert await remote_of(upstream, AUTH, BASIC).head_manifest("team/app", "v1")
    assert [entry.authorization for entry in upstream.log.entries] == [f"Basic {ENCODED}"]
    with pytest.raises(UpstreamRefused, match="rotate hub"):
        await remote_of(upstream, BasicAuth("reader", "no"), BASIC).head_manifest("team/app", "v1")


async def test_a_token_of_the_registrys_own_is_sent_as_it_is(remote_of, upstream):
    upstream.put_image("team/app", "v1")

    await remote_of(upstream, BearerAuth("own-token"), BASIC).head_manifest("team/app", "v1")

    assert upstream.log.entries[0].authorization == "Bearer own-token"


# Where credentials do not go.


@pytest.mark.parametrize(
    "realm",
    [
        "http://127.0.0.1:{attacker}/token",  # another port
        "http://localhost:{attacker}/token",
        "http://127.0.0.2:{attacker}/token",
        "http://[::1]:{attacker}/token",
        "https://127.0.0.1:{own}/token",
        "http://reader@127.0.0.1:{own}/token",
        "http://127.0.0.1:{own}/token2",
        "http://127.0.0.1:{own}/token?to=evil",
        "HTTP://127.0.0.1:{own}/token",
        "/token",
        "",
        "ftp://127.0.0.1/token",
        "not an address",
    ],
)
@pytest.mark.parametrize("call", ["manifest", "blob", "tags"])
async def test_another_realm_than_the_pinned_one_gets_nothing(
    remote_of, private, attacker, realm, call
):
    realm = realm.replace("{attacker}", str(attacker.port)).replace("{own}", str(private.port))
    remote = remote_of(private, AUTH, pinned(private))
    private.script(faults.challenge(f'Bearer realm="{realm}",service="registry.test"'), kind=call)

    asked = {
        "manifest": lambda: remote.manifest("team/app", "v1", limit=LIMIT),
        "tags": lambda: anext(remote.tags("team/app")),
        "blob": lambda: remote.head_blob("team/app", Digest.of(b"x")),
    }
    with pytest.raises(UpstreamUnsafe, match="no credential was sent there"):
        await asked[call]()

    assert attacker.log.entries == []
    assert {entry.path for entry in private.log.entries if ENCODED in entry.authorization} == {
        "/token"
    }
    assert private.log.count(kind="token") == 1


async def test_another_service_at_the_pinned_realm_is_refused(remote_of, private):
    private.script(
        faults.challenge(f'Bearer realm="{private.origin}/token",service="other"'), kind="manifest"
    )

    with pytest.raises(UpstreamUnsafe, match="entrepot upstream check hub"):
        await remote_of(private, AUTH, pinned(private)).head_manifest("team/app", "v1")


async def test_a_registry_that_suddenly_wants_the_password_itself_does_not_get_it(
    remote_of, private
):
    private.script(faults.challenge('Basic realm="x"'), kind="manifest")

    with pytest.raises(UpstreamUnsafe):
        await remote_of(private, AUTH, pinned(private)).head_manifest("team/app", "v1")

    assert not [e for e in private.log.of(kind="manifest") if ENCODED in e.authorization]


async def test_a_registry_that_suddenly_names_a_token_service_is_refused(
    remote_of, upstream, attacker
):
    upstream.script(faults.challenge(f'Bearer realm="{attacker.origin}/token",service="x"'))

    with pytest.raises(UpstreamUnsafe):
        await remote_of(upstream, AUTH, BASIC).head_manifest("team/app", "v1")

    assert attacker.log.entries == []


@pytest.mark.parametrize(
    "realm",
    [
        "http://localhost:{attacker}/token",
        "http://127.0.0.2:{attacker}/token",
        "https://evil.example/token",
        "http://x@127.0.0.1:{attacker}/token",
        "https://auth.docker.io.evil.example/token",
        "",
    ],
)
async def test_what_was_never_checked_gets_its_token_at_its_own_host_alone(
    remote_of, upstream, attacker, realm
):
    realm = realm.replace("{attacker}", str(attacker.port))
    upstream.script(faults.challenge(f'Bearer realm="{realm}",service="x"'))

    with pytest.raises(UpstreamUnsafe, match="no credential was sent there"):
        await remote_of(upstream, AUTH, None, "docker-hub").head_manifest("team/app", "v1")

    assert attacker.log.entries == []
    assert_told_nothing(upstream)


@pytest.mark.parametrize("handshake", [None, Handshake(Challenge.NONE)])
async def test_what_was_never_checked_can_be_read(remote_of, private, handshake):
    remote = remote_of(private, AUTH, handshake)

    for _ in range(2):
        assert await remote.head_manifest("team/app", "v1")

    assert private.log.count(kind="token") == 1
    assert [entry.status for entry in private.log.of(kind="manifest")] == [401, 200, 200]


@pytest.mark.parametrize("handshake", [None, Handshake(Challenge.NONE)])
async def test_what_was_never_checked_may_want_a_password(remote_of, upstream, handshake):
    upstream.put_image("team/app", "v1")
    upstream.login = BasicLogin({"reader": PASSWORD})

    assert await remote_of(upstream, AUTH, handshake).head_manifest("team/app", "v1")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["manifest", "blob", "tags", "head"])
@pytest.mark.parametrize("auth", [AUTH, BearerAuth(PASSWORD)])
async def test_a_redirect_to_another_origin_carries_nothing(
    remote_of, private, attacker, code, call, auth
):
    remote = remote_of(private, auth, pinned(private))
    private.script(faults.redirect(f"{attacker.origin}/x", code), kind="manifest")
    private.script(faults.redirect(f"{attacker.origin}/x", code), kind="blob")
    private.script(faults.redirect(f"{attacker.origin}/x", code), kind="tags")

    async def get_blob():
        async with remote.blob("team/app", Digest.of(b"x")) as blob:
            assert [piece async for piece in blob.pieces]

    calls = {
        "manifest": lambda: remote.manifest("team/app", "v1", limit=LIMIT),
        "head": lambda: remote.head_manifest("team/app", "v1"),
        "tags": lambda: anext(remote.tags("team/app")),
        "blob": get_blob,
    }
    await calls[call]()

    assert len(attacker.log.entries) == 1
    assert_told_nothing(attacker)
    assert private.log.entries[-1].authorization


async def test_a_credential_that_was_dropped_is_not_taken_up_again(remote_of, private, attacker):
    class Back(Attacker):
        async def answer(self, _request, _entry):
            return Reply(307, {"Location": f"{private.origin}/v2/team/app/manifests/v1"})

    back = Back()
    with back.running():
        private.script(faults.redirect(f"{back.origin}/x"), kind="manifest", times=1)
        await remote_of(private, AUTH, pinned(private)).manifest("team/app", "v1", limit=LIMIT)

    first, returned, again = private.log.of(kind="manifest")
    assert first.authorization
    assert returned.authorization == ""
    assert again.authorization  # a new request to the upstream itself, not a hop
    assert_told_nothing(back)


async def test_a_storage_host_that_asks_for_a_credential_gets_none(
    remote_of, private, blob_host, attacker
):
    private.blob_host = blob_host
    blob_host.faults.append(faults.challenge(f'Bearer realm="{attacker.origin}/t",service="x"'))
    digest = next(iter(private.repository("team/app").blobs))

    with pytest.raises(UpstreamBroken):
        async with remote_of(private, AUTH, pinned(private)).blob("team/app", Digest.parse(digest)):
            pass

    assert attacker.log.entries == []
    assert_told_nothing(blob_host)


async def test_a_token_service_that_redirects_is_not_followed(remote_of, private, attacker):
    private.script(faults.redirect(f"{attacker.origin}/token"), kind="token")

    with pytest.raises(UpstreamBroken, match="not sent on"):
        await remote_of(private, AUTH, pinned(private)).head_manifest("team/app", "v1")

    assert attacker.log.entries == []


async def test_cookies_are_not_kept(remote_of, private):
    private.script(faults.headers(Set_Cookie="a=b; Path=/"), times=2)
    remote = remote_of(private, AUTH, pinned(private))

    for _ in range(3):
        assert await remote.head_manifest("team/app", "v1")

    assert not [entry for entry in private.log.entries if "cookie" in entry.headers]


def test_a_secret_is_in_no_repr():
    assert PASSWORD not in repr(AUTH)
    assert PASSWORD not in repr(BearerAuth(PASSWORD))
