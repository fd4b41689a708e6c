"""ECR: each exchange against moto's server, which checks keys, policies and external ids."""

from pathlib import Path

import pytest

from entrepot.model.clock import HOUR, MINUTE, SECOND
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    FieldInvalid,
    UpstreamBusy,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamRefused,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import Challenge, EcrAuth, Handshake
from entrepot.upstream.ecr import EcrPasswords
from entrepot.upstream.origins import Origin
from entrepot.upstream.probe import probe
from tests.support.upstreams.aws import Aws, EcrRegistry

pytestmark = pytest.mark.slow  # each of AWS's answers takes a while

OWN = Origin.parse("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com")
BASIC = Handshake(Challenge.BASIC)
GET_TOKEN = "ecr:GetAuthorizationToken"
ASSUME = "sts:AssumeRole"


@pytest.fixture(scope="module")
def aws_server():
    with Aws().running() as aws:
        yield aws


@pytest.fixture
def aws(aws_server, monkeypatch, clock):
    """AWS, for whoever finds it by the variables that its own libraries read."""
    aws_server.lead_here(monkeypatch)
    aws_server.calls.clear()
    aws_server.now = lambda: clock.time / SECOND
    aws_server.check_permissions()
    return aws_server


@pytest.fixture
def registry(aws):
    with EcrRegistry(aws).running() as server:
        server.put_image("team/app", "v1", layers=[10_000])
        yield server


@pytest.fixture
def passwords_of(clock):
    def make(auth: EcrAuth, origin: Origin = OWN) -> EcrPasswords:
        return EcrPasswords(auth, origin, "ecr", clock)

    return make


async def test_keys_become_a_password_that_is_used_until_an_hour_before_its_end(
    aws, registry, remote_of, clock
):
    auth = EcrAuth(*aws.add_user("static", GET_TOKEN))
    remote = remote_of(registry, auth, BASIC, "ecr")

    for advance in (0, 10 * HOUR, 59 * MINUTE):
        clock.advance(advance)
        await remote.head_manifest("team/app", "v1")
    assert aws.count("GetAuthorizationToken") == 1

    clock.advance(2 * MINUTE)
    await remote.head_manifest("team/app", "v1")
    assert aws.count("GetAuthorizationToken") == 2
    assert len({entry.authorization for entry in registry.log.entries}) == 2
    assert [entry.status for entry in registry.log.entries] == [200] * 4


async def test_blobs_come_from_s3_without_the_password(aws, registry, remote_of):
    auth = EcrAuth(*aws.add_user("blobs", GET_TOKEN))
    digest = next(iter(registry.repository("team/app").blobs))

    async with remote_of(registry, auth, BASIC, "ecr").blob(
        "team/app", Digest.parse(digest)
    ) as blob:
        assert b"".join([piece async for piece in blob.pieces])

    assert registry.s3.log.entries[0].authorization == ""


async def test_a_role_is_assumed_with_its_external_id_and_asked_again_before_its_session_ends(
    aws, registry, remote_of, clock
):
    key, secret = aws.add_user("assuming", ASSUME)
    role = aws.add_role("pull", "external-1", GET_TOKEN)
    remote = remote_of(registry, EcrAuth(key, secret, role, "external-1"), BASIC, "ecr")

    for advance in (0, 50 * MINUTE):
        clock.advance(advance)
        await remote.head_manifest("team/app", "v1")
    assert (aws.count("AssumeRole"), aws.count("GetAuthorizationToken")) == (1, 1)

    clock.advance(6 * MINUTE)
    await remote.head_manifest("team/app", "v1")
    assert (aws.count("AssumeRole"), aws.count("GetAuthorizationToken")) == (2, 2)
    assert {entry.status for entry in registry.log.entries} == {200}


async def test_the_servers_own_identity_is_found_by_the_usual_chain(aws, passwords_of, monkeypatch):
    key, secret = aws.add_user("node", GET_TOKEN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    assert (await passwords_of(EcrAuth()).header()).startswith("Basic ")
    assert aws.calls[-1].access_key_id == key


async def test_the_servers_own_identity_is_not_lent_to_whoever_names_keys(
    aws, passwords_of, monkeypatch
):
    key, secret = aws.add_user("node-2", GET_TOKEN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    theirs = aws.add_user("tenant", GET_TOKEN)

    await passwords_of(EcrAuth(*theirs)).header()

    assert aws.calls[-1].access_key_id == theirs[0]


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:5000",
        "https://registry.example.com",
        "http://123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
        "https://evil.example",
    ],
)
@pytest.mark.parametrize("role", ["", "arn:aws:iam::123456789012:role/other"])
async def test_the_servers_own_identity_opens_nothing_for_other_hosts(
    aws, passwords_of, origin, role
):
    with pytest.raises(UpstreamUnsafe, match="own identity"):
        await passwords_of(EcrAuth(role_arn=role), Origin.parse(origin)).header()

    assert aws.calls == []


async def test_a_server_without_an_identity_says_so(aws, passwords_of):
    with pytest.raises(UpstreamRefused, match="no AWS identity"):
        await passwords_of(EcrAuth()).header()


async def test_a_denied_action_is_named(aws, passwords_of):
    nobody = aws.add_user("powerless")
    role = aws.add_role("closed", "external-2")
    assuming = aws.add_user("assuming-2", ASSUME)

    with pytest.raises(UpstreamRefused, match="ecr:GetAuthorizationToken"):
        await passwords_of(EcrAuth(*nobody)).header()
    with pytest.raises(UpstreamRefused, match=r"sts:AssumeRole.*external id"):
        await passwords_of(EcrAuth(nobody[0], nobody[1], role, "external-2")).header()
    with pytest.raises(UpstreamRefused, match="ecr:GetAuthorizationToken"):
        await passwords_of(EcrAuth(assuming[0], assuming[1], role, "external-2")).header()


async def test_another_external_id_does_not_open_a_role(aws, passwords_of):
    assuming = aws.add_user("assuming-3", ASSUME)
    role = aws.add_role("theirs", "external-3", GET_TOKEN)

    with pytest.raises(UpstreamRefused):
        await passwords_of(EcrAuth(assuming[0], assuming[1], role, "another")).header()


async def test_unknown_keys_are_refused_without_being_repeated(aws, passwords_of):
    role = aws.add_role("for-nobody", "external-4")

    with pytest.raises(
        UpstreamRefused, match=r"refuses the credential .*InvalidClientTokenId"
    ) as raised:
        await passwords_of(EcrAuth("AKIAUNKNOWN", "canary-secret", role, "external-4")).header()

    assert "canary-secret" not in str(raised.value.values) + raised.value.message


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(400, "ThrottlingException", UpstreamBusy), (500, "ServerException", UpstreamDown)],
)
async def test_aws_itself_can_fail(aws, passwords_of, status, code, error):
    auth = EcrAuth(*aws.add_user(f"failing-{status}", GET_TOKEN))
    aws.break_next(5, status, code)

    with pytest.raises(error):
        await passwords_of(auth).header()

    aws.break_next(0)
    assert await passwords_of(auth).header()


async def test_aws_may_not_be_there(aws, passwords_of, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(UpstreamDown, match="cannot be reached"):
        await passwords_of(EcrAuth("key", "secret")).header()


async def test_a_password_that_ended_early_is_renewed(aws, registry, remote_of, clock):
    auth = EcrAuth(*aws.add_user("early", GET_TOKEN))
    remote = remote_of(registry, auth, BASIC, "ecr")
    await remote.head_manifest("team/app", "v1")
    aws.passwords.update(dict.fromkeys(aws.passwords, 0.0))
    clock.advance(2 * MINUTE)

    await remote.head_manifest("team/app", "v1")

    assert [entry.status for entry in registry.log.entries] == [200, 403, 200]


async def test_what_is_forbidden_does_not_ask_for_passwords_again_and_again(
    aws, registry, remote_of
):
    auth = EcrAuth(*aws.add_user("often", GET_TOKEN))
    remote = remote_of(registry, auth, BASIC, "ecr")
    await remote.head_manifest("team/app", "v1")
    aws.passwords.update(dict.fromkeys(aws.passwords, 0.0))

    for _ in range(3):
        with pytest.raises(UpstreamForbidden):
            await remote.head_manifest("team/app", "v1")

    assert aws.count("GetAuthorizationToken") == 1


async def test_saving_shows_whether_aws_takes_the_keys(aws, registry, outbound):
    good, powerless = aws.add_user("saved", GET_TOKEN), aws.add_user("unsaved")
    origin = registry.origin

    assert await probe(outbound, origin, EcrAuth(*good), "ecr", "ecr") == BASIC
    with pytest.raises(FieldInvalid, match=GET_TOKEN):
        await probe(outbound, origin, EcrAuth(*powerless), "ecr", "ecr")


async def test_the_operators_authorities_are_trusted_besides_the_usual_ones(
    aws, clock, tmp_path, monkeypatch
):
    import trustme

    bundles = []
    true_call = EcrPasswords._call

    def witness(self, session, trusted, *arguments):
        bundles.append(Path(trusted).read_text())
        return true_call(self, session, trusted, *arguments)

    monkeypatch.setattr(EcrPasswords, "_call", witness)
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    auth = EcrAuth(*aws.add_user("trusting", GET_TOKEN))

    await EcrPasswords(auth, OWN, "ecr", clock, ca_file=tmp_path / "ca.pem").header()

    assert bundles[0].endswith((tmp_path / "ca.pem").read_text() + "\n")
    assert bundles[0].count("BEGIN CERTIFICATE") > 50
