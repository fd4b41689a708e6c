"""An upstream's credential and token go to its origin and its pinned realm, whatever it answers."""

import json

import pytest
import trustme

from tests.mirror.stand import stood
from tests.support.server import digest_of
from tests.support.upstreams import (
    BasicLogin,
    Realm,
    Reply,
    ScriptedUpstream,
    WireServer,
    bearer_upstream,
    faults,
)

PATH = "library/app"
USER, SECRET = "jo", "the-secret-of-jo"
CREDENTIAL = {"kind": "basic", "username": USER, "password": SECRET}


class Thief(WireServer):
    """Takes whatever it is told, and gives what a test says."""

    def __init__(self, **options):
        super().__init__(**options)
        self.reply = Reply(200, {"Content-Type": "application/json"}, b'{"token":"stolen"}')

    async def answer(self, _request, _entry):
        return self.reply

    @property
    def was_told_nothing(self) -> bool:
        """Nobody came with a credential, a cookie or a form."""
        return not any(
            entry.authorization or "cookie" in entry.headers or entry.form
            for entry in self.log.entries
        )


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def stand(tmp_path_factory, authority):
    """A server that may reach all of loopback, so that no guard of addresses saves it here."""
    folder = tmp_path_factory.mktemp("stand")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    environment = {
        "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.0/8",
        "ENTREPOT_OUTBOUND__CA_FILE": str(folder / "ca.pem"),
    }
    with stood(folder / "data", **environment) as running:
        yield running
        log = running.registry.server.log.read_text(errors="replace")
        assert SECRET not in log


@pytest.fixture(params=["127.0.0.2", "127.0.0.1"], ids=["another host", "another port"])
def thief(request):
    server = Thief(host=request.param)
    with server.running():
        yield server


@pytest.fixture
def far_thief():
    server = Thief(host="127.0.0.2")
    with server.running():
        yield server


@pytest.fixture
def upstream():
    """A registry whose realm knows one person."""
    server = bearer_upstream(Realm(people={USER: SECRET}, anonymous=False))
    with server.running():
        server.put_image(PATH, "1")
        yield server


@pytest.fixture
def basic_upstream():
    server = ScriptedUpstream(BasicLogin({USER: SECRET}))
    with server.running():
        server.put_image(PATH, "1")
        yield server


def tokens_of(upstream):
    return list(upstream.login.realm.given)


def saved(stand, upstream):
    name = "up-" + digest_of(upstream.origin.encode())[7:15]
    body = {"name": name, "url": upstream.origin, "credential": CREDENTIAL}
    return stand.admin.post("/organisations/main/upstreams", body)


# When an upstream is saved.

REALMS = {
    "another host": "http://{thief}/token",
    "a name of this machine": "http://localhost:{port}/token",
    "a user before the host": "http://{upstream}@{thief}/token",
    "a host in decimal": "http://2130706434:{port}/token",
    "a host in octal": "http://0177.0.0.2:{port}/token",
    "a host that begins alike": "http://{host}.example:{port}/token",
    "no scheme": "//{thief}/token",
    "a file": "file:///etc/passwd",
    "no URL": "token",
    "nothing": "",
    "a backslash": "http://{upstream}\\@{thief}/token",
    "a line break": "http://{thief}/token\n X: y",
}


@pytest.mark.parametrize("kind", REALMS)
def test_a_realm_that_is_not_the_upstreams_is_refused_when_it_is_saved(
    stand, upstream, far_thief, kind
):
    realm = REALMS[kind].format(
        thief=far_thief.address,
        port=far_thief.port,
        upstream=upstream.address,
        host=upstream.host,
    )
    challenge = f'Bearer realm="{realm}",service="registry.test"'
    upstream.script(faults.challenge(challenge), kind="ping")

    refused = saved(stand, upstream)

    assert refused.status_code == 422, refused.text
    assert SECRET not in refused.text
    assert far_thief.was_told_nothing
    assert not upstream.log.told(SECRET)


def test_a_realm_without_tls_of_an_upstream_with_tls_is_refused(stand, authority, far_thief):
    import ssl

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    safe = bearer_upstream(Realm(people={USER: SECRET}), tls=tls)
    plain = Thief()
    with safe.running(), plain.running():
        safe.put_image(PATH, "1")
        assert saved(stand, safe).status_code == 201
        challenge = f'Bearer realm="{plain.origin}/token",service="registry.test"'
        safe.script(faults.challenge(challenge), kind="ping")
        body = {"name": "downgraded", "url": safe.origin, "credential": CREDENTIAL}

        refused = stand.admin.post("/organisations/main/upstreams", body)

    assert refused.status_code == 422, refused.text
    assert plain.log.entries == []


def test_an_upstream_whose_certificate_nobody_knows_is_refused(stand):
    import ssl

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with ScriptedUpstream(BasicLogin({USER: SECRET}), tls=tls).running() as unknown:
        refused = saved(stand, unknown)

    assert refused.status_code in {422, 502}, refused.text
    assert "certificate" in refused.text
    assert unknown.log.entries == []


def test_the_realm_is_shown_when_it_was_pinned(stand, upstream):
    made = saved(stand, upstream).json()

    assert made["realm"] == f"{upstream.origin}/token"
    assert SECRET not in json.dumps(made)


def test_a_wrong_password_is_refused_and_nothing_is_kept(stand, upstream):
    upstream.login.realm.people[USER] = "another"

    refused = saved(stand, upstream)

    assert refused.status_code == 422, refused.text
    kept = stand.registry.rows("SELECT origin FROM upstreams")
    assert (upstream.origin,) not in kept


# Afterwards.


@pytest.fixture
def cache(stand, upstream):
    made = stand.cache(upstream, PATH, freshness=0, credential=CREDENTIAL)
    upstream.log.clear()
    return made


@pytest.fixture
def basic_cache(stand, basic_upstream):
    made = stand.cache(basic_upstream, PATH, freshness=0, credential=CREDENTIAL)
    basic_upstream.log.clear()
    return made


def test_a_realm_that_changes_gets_nothing(cache, upstream, thief):
    upstream.login.realm.revoke_all()
    challenge = f'Bearer realm="{thief.origin}/token",service="registry.test"'
    upstream.script(faults.challenge(challenge))

    answer = cache.manifest("1")

    assert answer.status == 502
    assert thief.log.entries == []
    assert SECRET not in answer.error


def test_a_password_that_was_taken_back_says_so_and_leaves_what_was_pulled(cache, upstream):
    image = upstream.put_image(PATH, "2")
    assert cache.manifest("1").status == 200
    upstream.login.realm.people.clear()
    upstream.login.realm.revoke_all()

    cold, warm = cache.manifest("2"), cache.manifest("1")

    assert cold.status == 502
    assert cache.upstream["name"] in cold.error
    assert image.digest not in cold.error
    assert warm.status == 200
    assert "warning" in warm.headers


def test_a_service_that_changes_gets_nothing(cache, upstream):
    upstream.login.realm.revoke_all()
    challenge = f'Bearer realm="{upstream.origin}/token",service="another"'
    upstream.script(faults.challenge(challenge), kind="manifest")

    answer = cache.manifest("1")

    assert answer.status == 502
    assert upstream.log.count(kind="token") == 0


@pytest.mark.parametrize("lines", [(), ("Negotiate",), ('Basic realm="other"',), ("Bearer",)])
def test_a_challenge_of_another_kind_gets_no_password(cache, upstream, lines):
    upstream.login.realm.revoke_all()
    upstream.script(faults.challenge(*lines), kind="manifest")

    answer = cache.manifest("1")

    assert answer.status in {403, 502}
    assert not any(
        entry.authorization.startswith("Basic") for entry in upstream.log.of(kind="manifest")
    )


MOVES = ["manifest", "blob", "tags", "referrers"]


def ask(cache, upstream, kind):
    (layer,) = [
        digest
        for digest, blob in upstream.repository(PATH).blobs.items()
        if isinstance(blob, bytes) and len(blob) == 1_000
    ]
    path = {
        "manifest": "manifests/1",
        "blob": f"blobs/{layer}",
        "tags": "tags/list",
        "referrers": f"referrers/{upstream.repository(PATH).tags['1']}",
    }[kind]
    return cache.get(path)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", MOVES)
def test_a_redirect_elsewhere_carries_no_token(cache, upstream, thief, kind, code):
    upstream.script(faults.redirect(f"{thief.origin}/elsewhere", code), kind=kind)

    answer = ask(cache, upstream, kind)

    assert thief.was_told_nothing
    assert answer.status >= 500 or not answer.is_complete or b"stolen" not in answer.body


@pytest.mark.parametrize("kind", MOVES)
def test_a_redirect_elsewhere_carries_no_password(basic_cache, basic_upstream, thief, kind):
    basic_upstream.script(faults.redirect(f"{thief.origin}/elsewhere"), kind=kind)

    ask(basic_cache, basic_upstream, kind)

    assert thief.was_told_nothing


def test_a_token_service_that_redirects_gets_no_further(cache, upstream, thief):
    upstream.login.realm.revoke_all()
    upstream.script(faults.redirect(f"{thief.origin}/token"), kind="token")

    answer = cache.manifest("1")

    assert answer.status == 502
    assert thief.was_told_nothing


def test_a_cookie_goes_nowhere(cache, upstream, thief):
    upstream.manners.headers["Set-Cookie"] = "session=of-the-upstream; Domain=127.0.0.1"
    assert cache.manifest("1").status == 200
    upstream.script(faults.redirect(f"{thief.origin}/x"), kind="blob")

    ask(cache, upstream, "blob")

    assert thief.was_told_nothing
    assert not any("cookie" in entry.headers for entry in upstream.log.entries)
    assert "set-cookie" not in cache.manifest("1").headers


def test_a_blob_at_another_host_is_fetched_without_the_token(cache, upstream, thief):
    layer = upstream.put_image(PATH, "2", layers=[5_000]).layers[0]
    thief.reply = Reply(200, {}, upstream.repository(PATH).blobs[layer])
    upstream.script(faults.redirect(f"{thief.origin}/signed?key=1"), kind="blob")

    answer = cache.blob(layer)

    assert digest_of(answer.body) == layer
    assert any(entry.authorization for entry in upstream.log.of(kind="blob"))
    assert len(thief.log.entries) == 1
    assert thief.was_told_nothing


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://",
        "",
        "http://jo:pw@{thief}/x",
        "gopher:x",
    ],
)
def test_a_redirect_to_no_address_is_refused(cache, upstream, far_thief, place):
    upstream.script(faults.redirect(place.format(thief=far_thief.address)), kind="blob")

    answer = ask(cache, upstream, "blob")

    assert answer.status == 502
    assert far_thief.was_told_nothing


def test_a_redirect_that_comes_back_brings_no_token(cache, upstream, thief):
    """Else whoever is asked on the way chooses what our credential is used for."""
    layer = upstream.put_image(PATH, "2", layers=[5_000]).layers[0]
    back = f"{upstream.origin}/v2/{PATH}/blobs/{layer}?back"
    thief.reply = Reply(307, {"Location": back})
    upstream.script(faults.redirect(f"{thief.origin}/x"), kind="blob", times=1)

    answer = cache.blob(layer)

    (returned,) = [entry for entry in upstream.log.of(kind="blob") if "back" in entry.query]
    assert returned.authorization == ""
    assert answer.status >= 400 or not answer.is_complete


def test_redirects_in_a_circle_end(cache, upstream):
    layer = upstream.put_image(PATH, "2", layers=[7]).layers[0]
    upstream.script(faults.redirect(f"/v2/{PATH}/blobs/{layer}"), kind="blob")

    answer = cache.blob(layer)

    assert answer.status == 502
    assert upstream.log.count(kind="blob", method="GET") <= 8


def test_nobody_sees_the_credential(stand, cache, upstream):
    cache.manifest("1")
    answers = [
        stand.admin.get(f"/upstreams/{cache.upstream['id']}").text,
        stand.admin.get("/organisations/main/upstreams").text,
        stand.admin.get("/organisations/main/audit").text,
        cache.get("tags/list").error,
    ]

    for text in answers:
        assert SECRET not in text
        assert not any(token in text for token in tokens_of(upstream))


def test_a_new_credential_is_tried_first_and_the_old_one_stays(stand, cache, upstream):
    found = stand.admin.get(f"/upstreams/{cache.upstream['id']}")
    wrong = {"credential": CREDENTIAL | {"password": "wrong"}}

    refused = stand.admin.patch(
        f"/upstreams/{cache.upstream['id']}", wrong, headers={"if-match": found.headers["etag"]}
    )

    assert refused.status_code == 422, refused.text
    upstream.login.realm.revoke_all()
    assert cache.manifest("1").status == 200
