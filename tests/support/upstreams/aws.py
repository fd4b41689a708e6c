"""Amazon ECR: moto plays IAM, STS and the ECR API; the registry and its times are played here.

"[G]" is docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken, "[U]" is
docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth, "[S]" is
docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole, "[K]" is what clients' sources show.
"""

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

import botocore.session
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

from tests.support.upstreams.credentials import basic_pair, refusal
from tests.support.upstreams.log import Entry
from tests.support.upstreams.scripted import BlobHost, ScriptedUpstream
from tests.support.upstreams.wire import Reply, Request

ACCOUNT = "123456789012"
REGION = "eu-west-1"
_TOKEN_LIFE = 12 * 3600  # "The authorization token is valid for 12 hours" [G]
_GET_TOKEN = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API: which action, with which access key, and what came back."""

    action: str
    access_key_id: str
    status: int


class Aws:
    """The endpoints of IAM, STS and ECR in one server: what `AWS_ENDPOINT_URL` may name.

    - Calls are signed (SigV4) by a known key; each action needs to be allowed by a policy; a role
      is assumed only with the external id of its trust policy [S]. moto checks all three, once
      `check_permissions` was called.
    - A password lives for 12 hours [G], but no longer than the role session that asked for it [K].
      moto's own have expired in 2015, so that they are replaced here.
    - A call with credentials of a session that has ended is refused: ExpiredTokenException [S].
    - `break_next` answers the next calls with an error of the service's own.
    """

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.calls: list[Call] = []
        self.passwords: dict[str, float] = {}  # and when they expire
        self.url = ""
        self._checks = False
        self._broken: list[tuple[int, str]] = []
        self._session_ends: dict[str, float] = {}
        self._app = DomainDispatcherApplication(create_backend_app)

    @contextmanager
    def running(self) -> Iterator["Aws"]:
        """Serve in a thread until the block ends."""
        server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._post("/moto-api/reset", "")
        self.check_permissions(on=False)
        try:
            yield self
        finally:
            self.check_permissions(on=False)
            server.shutdown()
            thread.join(10)
            server.server_close()

    def lead_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have whoever reads the variables of AWS's own libraries find these, and no identity."""
        for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")

    def check_permissions(self, *, on: bool = True) -> None:
        """From now on a call needs a known key and a policy that allows it."""
        self._checks = on
        self._post("/moto-api/reset-auth", "0" if on else "Infinity")

    def add_user(self, name: str, *actions: str) -> tuple[str, str]:
        """A user who may do this; key id and secret."""
        with self._setup() as iam:
            iam.create_user(UserName=name)
            if actions:
                iam.put_user_policy(
                    UserName=name, PolicyName="may", PolicyDocument=_policy(actions)
                )
            key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def add_role(self, name: str, external_id: str, *actions: str) -> str:
        """A role that may do this, for whoever knows its external id; its ARN."""
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        with self._setup() as iam:
            role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
            if actions:
                iam.put_role_policy(
                    RoleName=name, PolicyName="may", PolicyDocument=_policy(actions)
                )
        arn: str = role["Arn"]
        return arn

    def count(self, action: str) -> int:
        """How often an action succeeded or failed."""
        return sum(call.action == action for call in self.calls)

    def break_next(self, times: int = 1, status: int = 500, error: str = "ServerException") -> None:
        """Fail the next calls."""
        self._broken = [(status, error)] * times

    @contextmanager
    def _setup(self) -> Iterator[Any]:
        """A client of IAM that may do anything, for as long as this lasts."""
        checks = self._checks
        self.check_permissions(on=False)
        try:
            yield botocore.session.get_session().create_client(
                "iam",
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id="setup",
                aws_secret_access_key="setup",
            )
        finally:
            self.check_permissions(on=checks)

    def _post(self, path: str, body: str) -> None:
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "1",
            "HTTP_HOST": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": _Body(body.encode()),
            "wsgi.errors": None,
        }
        list(self._app(environ, lambda *_: lambda _: None))

    # Between the client and moto.

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = _Body(body)
        action = _action(environ, body)
        key_id = _between(environ.get("HTTP_AUTHORIZATION", ""), "Credential=", "/")
        status, headers, answer = self._answer_with(environ, action, key_id)
        self.calls.append(Call(action, key_id, int(status.split()[0])))
        start(status, headers)
        return [answer]

    def _answer_with(
        self, environ: WSGIEnvironment, action: str, key_id: str
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        is_ours = action in {"GetAuthorizationToken", "AssumeRole"}
        if is_ours and self._broken:
            code, error = self._broken.pop()
            return _error(code, error, "played")
        if self._session_ends.get(key_id, self.now() + 1) <= self.now():
            return _error(400, "ExpiredTokenException", "The security token is expired")
        seen: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            seen.append((status, headers))
            return lambda _: None

        answer = b"".join(self._app(environ, start))
        status, headers = seen[0]
        if action == "GetAuthorizationToken" and status.startswith("200"):
            return _ok(self._new_password(key_id))
        if action == "AssumeRole" and status.startswith("200"):
            self._note_sessions()
        return status, headers, answer

    def _note_sessions(self) -> None:
        for backend in sts_backends[ACCOUNT].values():
            for role in backend.assumed_roles:
                end = role.expiration.replace(tzinfo=UTC).timestamp()
                self._session_ends.setdefault(role.access_key_id, end)

    def _new_password(self, key_id: str) -> dict[str, Any]:
        password = secrets.token_urlsafe(40)
        life_ends = self.now() + _TOKEN_LIFE
        expires = min(life_ends, self._session_ends.get(key_id, life_ends))
        self.passwords[password] = expires
        pair = base64.b64encode(f"AWS:{password}".encode()).decode()
        data = {
            "authorizationToken": pair,
            "expiresAt": expires,
            "proxyEndpoint": f"https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com",
        }
        return {"authorizationData": [data]}


class EcrRegistry(ScriptedUpstream):
    """`ACCOUNT.dkr.ecr.REGION.amazonaws.com`.

    - Basic with the user `AWS` and a password of GetAuthorizationToken [U]; an expired one is 403
      "Your authorization token has expired. Reauthenticate and try again." [K], a wrong one 401.
    - Blobs are redirected (307) to S3 with a presigned address, where an Authorization header is
      400 [K].
    - The answer to GET of a manifest may lack Docker-Content-Digest [K].
    """

    def __init__(self, aws: Aws, **options: Any) -> None:
        super().__init__(**options)
        self.aws = aws
        self.s3 = BlobHost()
        self.blob_host = self.s3
        self.login = self

    @contextmanager
    def running(self) -> Iterator["EcrRegistry"]:
        with self.s3.running(), super().running():
            yield self

    def refuse(self, request: Request, _name: str, /) -> Reply | None:
        """The answer to whoever has no password of the API."""
        user, password = basic_pair(request.headers.get("authorization", "")) or ("", "")
        expires = self.aws.passwords.get(password)
        if user == "AWS" and expires is not None:
            if expires > self.aws.now():
                return None
            text = "Your authorization token has expired. Reauthenticate and try again."
            return refusal(403, "DENIED", text)
        challenge = f'Basic realm="{self.origin}/",service="ecr.amazonaws.com"'
        return refusal(401, "UNAUTHORIZED", "Not Authorized", WWW_Authenticate=challenge)

    def right_answer(self, request: Request, entry: Entry) -> Reply:
        reply = super().right_answer(request, entry)
        if entry.kind == "manifest" and request.method == "GET":
            reply.headers.pop("Docker-Content-Digest", None)
        return reply


class _Body:
    """The input of a WSGI request, read already."""

    def __init__(self, content: bytes) -> None:
        self._left = content

    def read(self, size: int = -1) -> bytes:
        size = len(self._left) if size < 0 else size
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)


def _action(environ: WSGIEnvironment, body: bytes) -> str:
    target: str = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rpartition(".")[2]
    return parse_qs(body.decode(errors="replace")).get("Action", [""])[0]


def _between(text: str, before: str, after: str) -> str:
    return text.partition(before)[2].partition(after)[0]


def _policy(actions: tuple[str, ...]) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _ok(document: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    return "200 OK", [("Content-Type", "application/x-amz-json-1.1")], json.dumps(document).encode()


def _error(code: int, error: str, message: str) -> tuple[str, list[tuple[str, str]], bytes]:
    document = {"__type": error, "message": message}
    headers = [("Content-Type", "application/x-amz-json-1.1")]
    return f"{code} Played", headers, json.dumps(document).encode()
