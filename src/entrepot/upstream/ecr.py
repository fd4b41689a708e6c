"""Amazon ECR: passwords that live for hours, asked for with signed calls (botocore, in a thread).

An identity of this server itself is used for AWS's own hosts only: any other would be given a
password that opens what this server may read.
"""

import asyncio
import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NoReturn

from entrepot.model.clock import MINUTE, SECOND, Clock
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import EcrAuth
from entrepot.upstream.bearer import Token, TokenCache, basic
from entrepot.upstream.origins import Origin

_HOST = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]{1,32})\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|on\.aws)"
)
# A password lives for 12 hours, but no longer than the session of the role that asked for it: it is
# replaced an hour before its end, or five minutes before that of a session of an hour.
_EARLY = 12
_SESSION_SECONDS = 3600
_SETTLED = MINUTE  # a password that is younger was refused for another reason than its age
_PERMISSIONS = {"ecr": "ecr:GetAuthorizationToken", "sts": "sts:AssumeRole"}
# The last one is what botocore makes of a refusal that it cannot read.
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
_THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
}


class EcrPasswords:
    """The passwords of one upstream. `endpoints` says where `ecr` and `sts` are instead of AWS."""

    def __init__(
        self,
        auth: EcrAuth,
        origin: Origin,
        name: str,
        clock: Clock,
        *,
        proxy: str = "",
        ca_file: Path | None = None,
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        self._auth = auth
        self._name = name
        self._clock = clock
        self._proxy = proxy
        self._ca_file = ca_file
        self._endpoints = endpoints or {}
        self._kept = TokenCache(clock)
        self._asked_at = 0
        match = _HOST.fullmatch(origin.host) if origin.scheme == "https" else None
        self._region = match[1] if match else None

    async def header(self) -> str:
        """The `Authorization` to send. Raises UpstreamError."""
        return await self._kept.get("", self._ask)

    def reject(self, header: str | None) -> None:
        """Forget a password that the registry refused, unless it is new."""
        if header is not None and self._clock.now() - self._asked_at > _SETTLED:
            self._kept.reject(header)

    async def _ask(self) -> Token:
        if not self._auth.access_key_id and self._region is None:
            message = (
                f"the upstream {self._name} would use this server's own identity, which is for"
                " https://ACCOUNT.dkr.ecr.REGION.amazonaws.com only; give it an access key"
            )
            raise UpstreamUnsafe(message, reason="identity")
        now = self._clock.now()
        token = await asyncio.to_thread(self._fetch, now)
        self._asked_at = now
        return token

    def _fetch(self, now: int) -> Token:
        """In a thread: botocore blocks."""
        # 30 MB and 100 ms that most servers never need.
        from botocore.session import Session  # noqa: PLC0415

        session = Session()
        with self._trusted() as trusted:
            keys, session_ends = self._keys(session, trusted)
            answer = self._call(session, trusted, "ecr", "get_authorization_token", keys, {})
        try:
            data = answer["authorizationData"][0]
            username, _, password = (
                base64.b64decode(data["authorizationToken"]).decode().partition(":")
            )
            end = _microseconds(data["expiresAt"])
        except (KeyError, IndexError, ValueError):
            message = f"AWS gave the upstream {self._name} something else than a password"
            raise UpstreamBroken(message, reason="ecr") from None
        if session_ends is not None:
            end = min(end, session_ends)
        return Token(basic(username, password), end - max(0, end - now) // _EARLY)

    @contextmanager
    def _trusted(self) -> Iterator[str | None]:
        """A file of the authorities that botocore trusts and the operator's; None for the first."""
        if self._ca_file is None:
            yield None
            return
        from botocore.httpsession import get_cert_path  # noqa: PLC0415  # as above

        with NamedTemporaryFile(prefix="entrepot-", suffix=".pem") as bundle:
            for part in (Path(get_cert_path(True)), self._ca_file):  # noqa: FBT003  # botocore's own
                bundle.write(part.read_bytes() + b"\n")
            bundle.flush()
            yield bundle.name

    def _keys(
        self,
        session: Any,  # noqa: ANN401  # botocore has no types
        trusted: str | None,
    ) -> tuple[dict[str, str], int | None]:
        """The keys to sign with (none: botocore finds the server's own), and when they end."""
        keys: dict[str, str] = {}
        if self._auth.access_key_id:
            keys = {
                "aws_access_key_id": self._auth.access_key_id,
                "aws_secret_access_key": self._auth.secret_access_key,
            }
        if not self._auth.role_arn:
            return keys, None
        wanted = {
            "RoleArn": self._auth.role_arn,
            "RoleSessionName": "entrepot",
            "DurationSeconds": _SESSION_SECONDS,
        }
        if self._auth.external_id:
            wanted["ExternalId"] = self._auth.external_id
        role = self._call(session, trusted, "sts", "assume_role", keys, wanted)["Credentials"]
        keys = {
            "aws_access_key_id": role["AccessKeyId"],
            "aws_secret_access_key": role["SecretAccessKey"],
            "aws_session_token": role["SessionToken"],
        }
        return keys, _microseconds(role["Expiration"])

    def _call(
        self,
        session: Any,  # noqa: ANN401  # botocore has no types
        trusted: str | None,
        service: str,
        action: str,
        keys: dict[str, str],
        wanted: dict[str, object],
    ) -> dict[str, Any]:
        from botocore.config import Config  # noqa: PLC0415  # as above
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        config = Config(
            connect_timeout=10,
            read_timeout=20,
            retries={"total_max_attempts": 2},
            proxies={"https": self._proxy, "http": self._proxy} if self._proxy else {},
        )
        try:
            client = session.create_client(
                service,
                region_name=self._region,
                config=config,
                endpoint_url=self._endpoints.get(service),
                verify=trusted,
                **keys,
            )
            answer: dict[str, Any] = getattr(client, action)(**wanted)
        except ClientError as error:
            self._refused(service, error)
        except BotoCoreError as error:
            raise self._unreachable(error) from error
        return answer

    def _refused(self, service: str, error: Any) -> NoReturn:  # noqa: ANN401  # botocore has no types
        """What AWS said, with the remedy."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        whose = f"the upstream {self._name}"
        meant: UpstreamError
        if code in _THROTTLED or status == 429:  # noqa: PLR2004
            meant = UpstreamBusy(f"AWS has {whose} wait; try again later", reason="busy")
        elif status >= 500:  # noqa: PLR2004
            meant = UpstreamDown(
                f"AWS fails for {whose} ({status}); try again later", status=status
            )
        elif code in _DENIED:
            message = f"AWS denies {whose} the action {_PERMISSIONS[service]}; "
            message += (
                f"let {self._auth.role_arn} trust this identity, with the external id that is shown"
                " with the upstream"
                if service == "sts"
                else "add it to the policy of its identity"
            )
            meant = UpstreamRefused(message, reason="refused", code=code)
        else:
            message = f"AWS refuses the credential of {whose} ({code[:80]}); renew it"
            meant = UpstreamRefused(message, reason="refused", code=code)
        raise meant from error

    def _unreachable(self, error: Exception) -> UpstreamError:
        from botocore import exceptions  # noqa: PLC0415  # as above

        whose = f"the upstream {self._name}"
        if isinstance(error, exceptions.ConnectTimeoutError | exceptions.ReadTimeoutError):
            return UpstreamSlow(f"AWS did not answer {whose} in time; try again", reason="timeout")
        if isinstance(error, exceptions.NoRegionError):
            message = f"the region of {whose} is not in its address; set AWS_DEFAULT_REGION here"
            return UpstreamRefused(message, reason="refused")
        if isinstance(
            error,
            exceptions.NoCredentialsError
            | exceptions.PartialCredentialsError
            | exceptions.CredentialRetrievalError,
        ):
            message = f"this server has no AWS identity for {whose}; give it an access key"
            return UpstreamRefused(message, reason="refused")
        return UpstreamDown(f"AWS cannot be reached for {whose}; try again", reason="connect")


def _microseconds(moment: datetime | float) -> int:
    if isinstance(moment, datetime):
        moment = moment.timestamp()
    return int(moment * SECOND)
