"""Azure: from a service principal's secret to a token for one scope, in three exchanges.

The secret goes to Entra alone, for a token that the registry exchanges for a refresh token, and
that for an access token (azure.github.io/acr/AAD-OAuth).
"""

import os
import re

from yarl import URL

from entrepot.model.clock import Clock
from entrepot.model.errors import UpstreamRefused
from entrepot.model.upstreams import AzureAuth, Handshake
from entrepot.upstream.bearer import Token, TokenCache, TokenService
from entrepot.upstream.origins import Origin

# By the registry's domain (Microsoft identity platform, "National clouds").
_AUTHORITIES = {
    ".azurecr.cn": "https://login.partner.microsoftonline.cn",
    ".azurecr.us": "https://login.microsoftonline.us",
}
_AUTHORITY = "https://login.microsoftonline.com"
# The operator's, by the name that Azure's own libraries read.
_AUTHORITY_VARIABLE = "AZURE_AUTHORITY_HOST"
_AUDIENCE = "https://containerregistry.azure.net/.default"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_REFRESH = "refresh"


class AzureTokens:
    """Tokens of one registry for one service principal."""

    def __init__(self, auth: AzureAuth, name: str, service: TokenService, clock: Clock) -> None:
        self._auth = auth
        self._name = name
        self._service = service
        self._refresh = TokenCache(clock)

    async def token(self, handshake: Handshake, scope: str) -> Token:
        """A token for `scope`. Raises UpstreamRefused and what a token service raises."""
        realm = URL(handshake.realm, encoded=True)
        refresh = await self.prove(handshake)
        form = {
            "grant_type": "refresh_token",
            "service": handshake.service,
            "scope": scope,
            "refresh_token": refresh,
        }
        try:
            return await self._service.post(realm, form, has_scope=True)
        except UpstreamRefused:
            self._refresh.reject(refresh)  # ended before its time; the next one is new
            raise

    async def prove(self, handshake: Handshake) -> str:
        """A refresh token, which shows that the registry takes the principal."""
        return await self._refresh.get(_REFRESH, lambda: self._exchange(handshake))

    async def _exchange(self, handshake: Handshake) -> Token:
        realm = Origin.of(URL(handshake.realm, encoded=True))
        form = {
            "grant_type": "access_token",
            "service": handshake.service,
            "tenant": self._auth.tenant,
            "access_token": await self._entra(realm),
        }
        return await self._service.post(realm.url("/oauth2/exchange"), form, has_scope=False)

    async def _entra(self, realm: Origin) -> str:
        if _TENANT.fullmatch(self._auth.tenant) is None:
            message = f"the tenant of the upstream {self._name} must be its id or its domain"
            raise UpstreamRefused(message, reason="refused")
        domain = "." + ".".join(realm.host.split(".")[-2:])
        authority = os.environ.get(_AUTHORITY_VARIABLE) or _AUTHORITIES.get(domain, _AUTHORITY)
        if "://" not in authority:
            authority = f"https://{authority}"
        form = {
            "grant_type": "client_credentials",
            "client_id": self._auth.client_id,
            "client_secret": self._auth.client_secret,
            "scope": _AUDIENCE,
        }
        url = Origin.parse(authority).url(f"/{self._auth.tenant}/oauth2/v2.0/token")
        return (await self._service.post(url, form, has_scope=False)).text
