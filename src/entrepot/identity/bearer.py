"""Bearer tokens of the token service: HS256, one audience, naming the credential behind them."""

import base64
import uuid
from dataclasses import dataclass

import jwt
import msgspec

from entrepot.identity.keys import KeyRing
from entrepot.model.clock import SECOND

_ALGORITHM = "HS256"
_ISSUER = "entrepot"
_LEEWAY_SECONDS = 60
_PURPOSE = "bearer tokens"
_SIZE_LIMIT = 32 * 1024
_HEADER_LIMIT = 256  # ours has about 80 characters


@dataclass(frozen=True, slots=True)
class BearerClaims:
    """What a bearer token says. Times are UTC microseconds; `token_id` 0 is nobody."""

    token_id: int
    audience: str
    access: dict[str, frozenset[str]]
    issued_at: int
    expires_at: int


class _Header(msgspec.Struct):
    kid: str


_read_header = msgspec.json.Decoder(_Header).decode


class BearerKey:
    """Signs bearer tokens with the current key of the ring, and checks them with the key they name.

    Keys are derived, so that those of the ring have other uses too.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def sign(self, claims: BearerClaims) -> str:
        """A token that says `claims`."""
        key = self._ring.current
        return jwt.encode(
            {
                "iss": _ISSUER,
                "aud": claims.audience,
                "sub": str(claims.token_id),
                "iat": claims.issued_at // SECOND,
                "exp": claims.expires_at // SECOND,
                "jti": uuid.uuid4().hex,
                "access": {name: sorted(actions) for name, actions in claims.access.items()},
            },
            key.derive(_PURPOSE),
            algorithm=_ALGORITHM,
            headers={"kid": key.id},
        )

    def read(self, token: str, audience: str) -> BearerClaims | None:
        """What a token of ours for `audience` says, expired or not; None for any other.

        One without a key id, or with that of a key that is not in the ring, is not ours.
        The caller judges the expiry: an upload may be finished a while after it.
        """
        if len(token) > _SIZE_LIMIT or (key := self._ring.find(_key_id(token))) is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key.derive(_PURPOSE),
                algorithms=[_ALGORITHM],
                audience=audience,
                issuer=_ISSUER,
                options={
                    "require": ["exp", "iat", "sub", "aud", "iss"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "strict_aud": True,
                },
            )
            return BearerClaims(
                token_id=int(claims["sub"]),
                audience=audience,
                access={
                    str(name): frozenset(map(str, actions))
                    for name, actions in claims.get("access", {}).items()
                },
                issued_at=int(claims["iat"]) * SECOND,
                expires_at=(int(claims["exp"]) + _LEEWAY_SECONDS) * SECOND,
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            return None


def _key_id(token: str) -> str:
    """The key id in a token's header; empty where there is none."""
    header = token.partition(".")[0]
    if len(header) > _HEADER_LIMIT:
        return ""
    try:
        return _read_header(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))).kid
    except (ValueError, msgspec.MsgspecError):
        return ""
