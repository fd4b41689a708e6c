"""The played AWS checks signatures, policies, external ids and times."""

import base64

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.upstreams.aws import REGION, Aws, EcrRegistry

GET = "ecr:GetAuthorizationToken"


@pytest.fixture(scope="module")
def server():
    aws = Aws()
    with aws.running():
        yield aws


@pytest.fixture
def aws(server):
    server.calls.clear()
    server.check_permissions(on=False)
    yield server
    server.now = Aws().now


@pytest.fixture
def registry(aws):
    with EcrRegistry(aws).running() as registry:
        registry.put_image("app", "1")
        yield registry


def client(aws, service, key, session=None):
    return botocore.session.get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=aws.url,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        aws_session_token=session,
    )


def password_of(aws, key, session=None):
    answer = client(aws, "ecr", key, session).get_authorization_token()
    data = answer["authorizationData"][0]
    pair = base64.b64decode(data["authorizationToken"]).decode()
    return pair.removeprefix("AWS:"), data["expiresAt"].timestamp()


def test_a_password_of_the_api_opens_the_registry_for_twelve_hours(aws, registry, http):
    key = aws.add_user("reader", GET)
    aws.check_permissions()
    password, expires = password_of(aws, key)
    url = f"{registry.origin}/v2/app/manifests/1"

    now = aws.now()
    assert http.get(url, auth=("AWS", password)).status_code == 200
    assert expires == pytest.approx(now + 12 * 3600, abs=60)
    aws.now = lambda: now + 12 * 3600 + 60
    assert http.get(url, auth=("AWS", password)).status_code == 403


def test_an_action_that_no_policy_allows_is_denied_by_name(aws):
    key = aws.add_user("nobody")
    aws.check_permissions()

    with pytest.raises(ClientError, match=GET):
        password_of(aws, key)


def test_a_wrong_secret_is_no_signature(aws):
    key, _ = aws.add_user("forger", GET)
    aws.check_permissions()

    with pytest.raises(ClientError, match="signature"):
        password_of(aws, (key, "wrong"))


def test_a_role_wants_its_external_id_and_bounds_the_password(aws):
    key = aws.add_user("node", "sts:AssumeRole")
    role = aws.add_role("puller", "ours-1", GET)
    aws.check_permissions()
    sts = client(aws, "sts", key)

    with pytest.raises(ClientError, match="AccessDenied"):
        sts.assume_role(RoleArn=role, RoleSessionName="played", ExternalId="theirs")
    made = sts.assume_role(RoleArn=role, RoleSessionName="played", ExternalId="ours-1")[
        "Credentials"
    ]
    pair = made["AccessKeyId"], made["SecretAccessKey"]
    _, expires = password_of(aws, pair, made["SessionToken"])

    assert expires == pytest.approx(made["Expiration"].timestamp(), abs=5)
    now = aws.now()
    aws.now = lambda: now + 3700
    with pytest.raises(ClientError, match="ExpiredToken"):
        password_of(aws, pair, made["SessionToken"])


def test_the_next_calls_fail_as_told(aws):
    aws.break_next(1, 400, "ThrottlingException")

    with pytest.raises(ClientError, match="Throttling"):
        botocore.session.get_session().create_client(
            "ecr",
            region_name=REGION,
            endpoint_url=aws.url,
            aws_access_key_id="x",
            aws_secret_access_key="y",
            config=Config(retries={"total_max_attempts": 1}),
        ).get_authorization_token()
