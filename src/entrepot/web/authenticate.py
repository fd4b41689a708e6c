"""From the Authorization header to the actor. Basic and Bearer are taken on every route."""

import base64
from dataclasses import replace

from entrepot.model.access import Actor
from entrepot.model.errors import Unauthenticated
from entrepot.services.access import NOBODY, OUTSIDER
from entrepot.services.credentials import Credentials
from entrepot.web.hosts import Hosts
from entrepot.web.requests import Request

_HEADER_LIMIT = 32 * 1024


class Authenticator:
    """Finds out who asks."""

    def __init__(self, credentials: Credentials, hosts: Hosts) -> None:
        self._credentials = credentials
        self._hosts = hosts

    async def actor(self, request: Request) -> Actor:
        """Who asks; nobody without a header. Raises Unauthenticated for a wrong credential."""
        header = request.header(b"authorization")
        if header is None:
            return nobody(request)
        scheme, _, value = header.partition(" ")
        match scheme.lower():
            case "basic":
                return await self._credentials.by_token(password_of(value))
            case "bearer" if value.startswith("entrepot_"):
                return await self._credentials.by_token(value)
            case "bearer":
                actor = await self._credentials.by_bearer(value, self._hosts.service(request))
                if actor.is_anonymous:
                    return replace(actor, credential=nobody(request).credential)
                return actor
            case _:
                raise Unauthenticated("authenticate with Basic or Bearer")


def nobody(request: Request) -> Actor:
    """Who asks without a credential: somebody on this machine, or a proxy for anybody."""
    return OUTSIDER if request.is_forwarded() else NOBODY


def password_of(value: str) -> str:
    """The password in a Basic header; any user name will do. Raises Unauthenticated."""
    if len(value) > _HEADER_LIMIT:
        raise Unauthenticated("this is no credential of ours")
    try:
        pair = base64.b64decode(value, validate=True).decode()
    except ValueError as error:  # not ASCII, not base64, not UTF-8
        raise Unauthenticated("the Basic credential cannot be read") from error
    name, colon, password = pair.partition(":")
    # An identity token of docker comes as the password of user <token>; some helpers send a token
    # as the user name and leave the password out.
    return password if colon and password else name
