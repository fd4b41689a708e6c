"""From what a request carries to who acts. Random tokens are never locked out."""

from entrepot.db import tokens
from entrepot.db.database import Database
from entrepot.identity.bearer import BearerKey
from entrepot.identity.tokens import hash_token, is_well_formed
from entrepot.model.access import Actor, Credential
from entrepot.model.errors import Unauthenticated
from entrepot.services.access import NOBODY
from entrepot.services.last_use import LastUse


class Credentials:
    """Finds the actor behind a secret."""

    def __init__(self, database: Database, bearer: BearerKey, last_use: LastUse) -> None:
        self._database = database
        self._last_use = last_use
        self._bearer = bearer

    async def by_token(self, token: str) -> Actor:
        """Whoever holds an opaque token, which may have expired. Raises Unauthenticated."""
        if not is_well_formed(token):
            raise Unauthenticated(_UNKNOWN)
        async with self._database.read() as tx:
            credential = await tokens.find_by_hash(tx, hash_token(token))
        if credential is None:
            raise Unauthenticated(_UNKNOWN)
        self._last_use.note(credential.token_id)
        return Actor(credential, expires_at=credential.expires_at)

    async def by_bearer(self, token: str, audience: str) -> Actor:
        """Whoever a bearer token names, which may have expired. Raises Unauthenticated."""
        claims = self._bearer.read(token, audience)
        if claims is None:
            message = "this bearer token is not ours, or not for this host; get a new one"
            raise Unauthenticated(message, error="invalid_token")
        credential: Credential | None = NOBODY.credential
        if claims.token_id:
            async with self._database.read() as tx:
                credential = await tokens.find(tx, claims.token_id)
        if credential is None:
            message = "the token behind this bearer token was revoked"
            raise Unauthenticated(message, error="invalid_token")
        if claims.token_id:
            self._last_use.note(claims.token_id)
        expires_at = min(claims.expires_at, credential.expires_at or claims.expires_at)
        return Actor(credential, granted=claims.access, expires_at=expires_at)


_UNKNOWN = "this token is not known here; check that it was copied whole and not revoked"
