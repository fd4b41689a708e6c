"""Azure Container Registry and Microsoft Entra, played from their documentation.

"[O]" is azure.github.io/acr/AAD-OAuth, "[E]" is
learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, "[R]" is
learn.microsoft.com/rest/api/containerregistry/ (access-tokens, refresh-tokens), "[K]" is what the
SDKs' sources and error reports show.
"""

import json
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jwt

from tests.support.upstreams.credentials import basic_pair, refusal
from tests.support.upstreams.log import Entry
from tests.support.upstreams.scripted import BlobHost, ScriptedUpstream
from tests.support.upstreams.wire import Reply, Request, WireServer

NOBODY = "00000000-0000-0000-0000-000000000000"  # "the null GUID" [O]
_ENTRA_LIFE = 3599  # the example's expires_in [E]
_REFRESH_LIFE = 3 * 3600  # [K]
_ACCESS_LIFE = 4500  # exp - iat of the example's claims [O]
_AUDIENCES = {  # whose tokens the exchange takes: its own, and Azure Resource Manager's [O, K]
    "https://containerregistry.azure.net/.default",
    "https://management.azure.com/.default",
    "https://management.core.windows.net/.default",
}


class Entra(WireServer):
    """login.microsoftonline.com.

    - POST /TENANT/oauth2/v2.0/token with a form: `client_id`, `scope`, `client_secret` and
      `grant_type=client_credentials`, all required [E].
    - "The value passed for the scope parameter should be the resource identifier … affixed with the
      .default suffix" [E]; anything else is 400 invalid_scope.
    - The answer is `token_type`, `expires_in` 3599 and `access_token` [E].
    - Errors are `error`, `error_description` (with an AADSTS number) and `error_codes` [E]: a wrong
      secret is 401 invalid_client AADSTS7000215, an unknown application 400 unauthorized_client
      AADSTS700016, an unknown tenant 400 invalid_request AADSTS90002 [K].
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.key = secrets.token_hex(32)
        self.secrets: dict[tuple[str, str], str] = {}  # tenant and client -> secret
        self.now: Callable[[], float] = time.time

    def add_principal(self) -> tuple[str, str, str]:
        """A service principal: its tenant, client id and secret."""
        tenant, client, secret = str(uuid.uuid4()), str(uuid.uuid4()), secrets.token_urlsafe(24)
        self.secrets[tenant, client] = secret
        return tenant, client, secret

    async def answer(self, request: Request, entry: Entry) -> Reply:
        entry.kind = "token"
        match = re.fullmatch(r"/([^/]+)/oauth2/v2\.0/token", request.path)
        if match is None or request.method != "POST":
            return Reply(404, {"Content-Type": "text/html"}, b"<title>404</title>")
        form, tenant = request.form, match[1]
        missing = {"client_id", "scope", "client_secret", "grant_type"} - set(form)
        if missing:
            return _entra_error(400, "invalid_request", 900144, f"missing {sorted(missing)}")
        if form["grant_type"] != "client_credentials":
            return _entra_error(400, "unsupported_grant_type", 70003, form["grant_type"])
        if not any(tenant == known for known, _ in self.secrets):
            return _entra_error(400, "invalid_request", 90002, "tenant not found")
        if (tenant, form["client_id"]) not in self.secrets:
            return _entra_error(400, "unauthorized_client", 700016, "application not found")
        if self.secrets[tenant, form["client_id"]] != form["client_secret"]:
            return _entra_error(401, "invalid_client", 7000215, "invalid client secret provided")
        if form["scope"] not in _AUDIENCES:
            return _entra_error(400, "invalid_scope", 70011, "the scope is not valid")
        token = self._sign(tenant, form["client_id"], form["scope"])
        answer = {"token_type": "Bearer", "expires_in": _ENTRA_LIFE, "access_token": token}
        return _json(answer)

    def _sign(self, tenant: str, client: str, scope: str) -> str:
        now = int(self.now())
        claims = {
            "aud": scope.removesuffix("/.default"),
            "appid": client,
            "tid": tenant,
            "iat": now,
            "exp": now + _ENTRA_LIFE,
        }
        return jwt.encode(claims, self.key)


class ContainerRegistry(ScriptedUpstream):
    """`NAME.azurecr.io`.

    - The realm is `https://NAME.azurecr.io/oauth2/token`, the service is the host [O].
    - POST /oauth2/exchange with a form: `grant_type=access_token`, `service`, `tenant`,
      `access_token` gives `{"refresh_token": …}` [O]. The service has to be this registry, the token
      one of Entra for that tenant, not expired.
    - POST /oauth2/token with a form: `grant_type=refresh_token`, `service`, `scope` (may be
      repeated), `refresh_token` gives `{"access_token": …}`, nothing else: its life is in the claim
      `exp` [O]. Any other grant is 400 [K].
    - GET /oauth2/token with Basic: the principal's id and secret, or the null GUID and a refresh
      token [R, O].
    - Reading content needs the action `pull`, listing tags `metadata_read`, as the challenges
      say [K].
    - A principal without the role AcrPull gets a token without the action, and 401
      `insufficient_scope` for it [K].
    - Blobs are redirected (307) to Azure storage with a signed address, where an Authorization
      header is refused [K].
    """

    def __init__(self, entra: Entra, **options: Any) -> None:
        super().__init__(**options)
        self.entra = entra
        self.storage = BlobHost()
        self.blob_host = self.storage
        self.login = self
        self.key = secrets.token_hex(32)
        self.roles: dict[str, set[str]] = {}  # client id -> what it may read: AcrPull

    @contextmanager
    def running(self) -> Iterator["ContainerRegistry"]:
        with self.storage.running(), super().running():
            yield self

    def describe(self, request: Request, entry: Entry) -> None:
        super().describe(request, entry)
        if request.path in {"/oauth2/token", "/oauth2/exchange"}:
            entry.kind = "token" if request.path == "/oauth2/token" else "exchange"

    def right_answer(self, request: Request, entry: Entry) -> Reply:
        if entry.kind == "exchange":
            return self._trade(request)
        if entry.kind == "token":
            return self._token(request)
        return super().right_answer(request, entry)

    def refuse(self, request: Request, name: str, /) -> Reply | None:
        """The answer to whoever has no token for this."""
        action = "metadata_read" if request.path.endswith("/tags/list") else "pull"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims = self._claims(token, "access_token") if scheme.lower() == "bearer" else None
        if claims is not None and (
            not name or any(a["name"] == name and action in a["actions"] for a in claims["access"])
        ):
            return None
        challenge = f'Bearer realm="{self.origin}/oauth2/token",service="{self.address}"'
        challenge += f',scope="repository:{name}:{action}"' if name else ""
        challenge += ',error="insufficient_scope"' if claims is not None else ""
        return refusal(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)

    def _trade(self, request: Request) -> Reply:
        form = request.form
        if request.method != "POST" or form.get("grant_type") != "access_token":
            return refusal(400, "BADREQUEST", "unsupported grant type")
        if form.get("service") != self.address:
            return refusal(400, "BADREQUEST", "wrong service")
        try:
            claims = jwt.decode(
                form.get("access_token", ""),
                self.entra.key,
                ["HS256"],
                options={"verify_aud": False, "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return refusal(401, "UNAUTHORIZED", "invalid token")
        if claims["exp"] <= self.entra.now() or claims["tid"] != form.get("tenant"):
            return refusal(401, "UNAUTHORIZED", "token expired, or of another tenant")
        return _json({"refresh_token": self._refresh_token(claims["appid"])})

    def _token(self, request: Request) -> Reply:
        if request.method == "GET":
            fields = {key: values[-1] for key, values in request.query.items()}
            client = self._client_of_basic(request)
        else:
            fields = request.form
            if fields.get("grant_type") != "refresh_token":
                return refusal(400, "BADREQUEST", "unsupported grant type")
            claims = self._claims(fields.get("refresh_token", ""), "refresh_token")
            client = claims["sub"] if claims else ""
        if not client:
            return refusal(401, "UNAUTHORIZED", "authentication required")
        if fields.get("service") != self.address:
            return refusal(400, "BADREQUEST", "wrong service")
        access = [
            {"type": "repository", "name": match[1], "actions": match[2].split(",")}
            for scope in fields.get("scope", "").split()
            if (match := re.fullmatch(r"repository:(.+):([a-z_,]+)", scope))
            and match[1] in self.roles.get(client, ())
        ]
        return _json({"access_token": self._sign("access_token", client, _ACCESS_LIFE, access)})

    def _client_of_basic(self, request: Request) -> str:
        user, password = basic_pair(request.headers.get("authorization", "")) or ("", "")
        if user == NOBODY:
            claims = self._claims(password, "refresh_token")
            return str(claims["sub"]) if claims else ""
        is_known = any(
            client == user and secret == password
            for (_, client), secret in self.entra.secrets.items()
        )
        return user if is_known else ""

    def _refresh_token(self, client: str) -> str:
        return self._sign("refresh_token", client, _REFRESH_LIFE, [])

    def _sign(self, grant: str, client: str, life: int, access: list[dict[str, Any]]) -> str:
        now = int(self.entra.now())
        claims = {
            "iss": "Azure Container Registry",
            "aud": self.address,
            "sub": client,
            "grant_type": grant,
            "iat": now,
            "nbf": now,
            "exp": now + life,
            "jti": str(uuid.uuid4()),
            "access": access,
        }
        return jwt.encode(claims, self.key)

    def _claims(self, token: str, grant: str) -> dict[str, Any] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.key,
                ["HS256"],
                audience=self.address,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return None
        is_good = claims["grant_type"] == grant and claims["exp"] > self.entra.now()
        return claims if is_good else None


def _json(document: dict[str, Any]) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def _entra_error(status: int, error: str, number: int, text: str) -> Reply:
    document = {
        "error": error,
        "error_description": f"AADSTS{number}: {text}. Trace ID: {uuid.uuid4()}",
        "error_codes": [number],
    }
    return Reply(
        status, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(document).encode()
    )
