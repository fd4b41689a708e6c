"""Whether an address is a registry that takes our credential, asked when an upstream is saved.

What is wrong is said of the field it is in: `url` or `credential`.
"""

from entrepot.model.clock import SystemClock
from entrepot.model.errors import (
    FieldInvalid,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamRefused,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import (
    Auth,
    BasicAuth,
    Challenge,
    GoogleAuth,
    Handshake,
    NoAuth,
    Observation,
)
from entrepot.upstream.authorise import Authoriser
from entrepot.upstream.challenge import find, parse_challenges
from entrepot.upstream.google import require_key
from entrepot.upstream.observed import retry_after
from entrepot.upstream.origins import Origin
from entrepot.upstream.outbound import Answer, Outbound
from entrepot.upstream.realms import require_own_realm

# What will be the same tomorrow, unlike a host that does not answer.
_LASTING = {"dns", "tls"}
_REMEDY = "give one that may read there"
_NAMED = "a user name and password: --username NAME --password-stdin"


async def probe(outbound: Outbound, origin: str, auth: Auth, preset: str, name: str) -> Handshake:
    """What the registry said, to be pinned.

    Raises FieldInvalid with the remedy; UpstreamDown, UpstreamSlow or UpstreamBusy where nothing
    can be known now.
    """
    at = Origin.parse(origin)
    _require_usable(auth)
    try:
        handshake = await _greet(outbound, at, preset, name)
    except UpstreamBusy:
        raise
    except UpstreamDown as error:
        if error.values.get("reason") not in _LASTING:
            raise
        raise FieldInvalid(error.message, field="url") from None
    except UpstreamError as error:
        raise FieldInvalid(error.message, field="url") from None
    clock = SystemClock()
    authoriser = Authoriser(outbound, name, at, handshake, auth, preset, clock, _unseen, _REMEDY)
    try:
        await _prove(outbound, at, authoriser, handshake.challenge, auth, name)
    except (UpstreamRefused, UpstreamForbidden, UpstreamUnsafe, UpstreamBroken) as error:
        raise FieldInvalid(error.message, field="credential") from None
    return handshake


def _require_usable(auth: Auth) -> None:
    """Refuse what no upstream could take."""
    if isinstance(auth, GoogleAuth):
        require_key(auth)
    if isinstance(auth, BasicAuth) and ":" in auth.username:
        message = "a user name has no colon; the password is a field of its own"
        raise FieldInvalid(message, field="credential")


async def _greet(outbound: Outbound, at: Origin, preset: str, name: str) -> Handshake:
    """How the registry asks who we are."""
    called = f"the upstream {name}"
    async with outbound.ask("GET", at.url("/v2/"), called=called) as answer:
        if answer.status == 200 and answer.media_type != "text/html":  # noqa: PLR2004
            return Handshake(Challenge.NONE)
        if answer.status == 401:  # noqa: PLR2004
            return _challenge(answer, at, preset, name)
        if answer.status == 429:  # noqa: PLR2004
            wait = retry_after(answer.headers.get("Retry-After"), SystemClock().now())
            raise UpstreamBusy(f"{called} has us wait (429)", retry_after=wait, reason="busy")
        if answer.status >= 500:  # noqa: PLR2004
            message = f"{called} fails ({answer.status}); try again, or save it unchecked"
            raise UpstreamDown(message, status=answer.status, reason="status")
        raise FieldInvalid(_no_registry(answer, at), field="url")


def _no_registry(answer: Answer, at: Origin) -> str:
    if 300 <= answer.status < 400:  # noqa: PLR2004
        return f"{at} leads to another address; give the address of the registry itself"
    if answer.status == 403:  # noqa: PLR2004
        return f"{at} refuses this server altogether (403); a firewall may stand before it"
    what = "a web page" if answer.media_type == "text/html" else str(answer.status)
    return f"{at} is not a registry: {at}/v2/ answers {what}; check the host and port"


def _challenge(answer: Answer, at: Origin, preset: str, name: str) -> Handshake:
    """The realm to be pinned. Raises FieldInvalid for one that is not the registry's own."""
    challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", ()))
    if (bearer := find(challenges, "bearer")) is not None:
        realm = bearer.parameters.get("realm", "")
        try:
            require_own_realm(realm, at, preset, pinning=True)
        except UpstreamUnsafe as error:
            message = (
                f"the upstream {name} sends us for a token to {error.message}; a credential goes to"
                " the registry's own host or domain only"
            )
            raise FieldInvalid(message, field="url") from None
        return Handshake(Challenge.BEARER, realm, bearer.parameters.get("service", ""))
    if find(challenges, "basic") is not None:
        return Handshake(Challenge.BASIC)
    message = f"{at} wants a credential, and does not say which; only Basic and Bearer are known"
    raise FieldInvalid(message, field="url")


async def _prove(
    outbound: Outbound,
    at: Origin,
    authoriser: Authoriser,
    challenge: Challenge,
    auth: Auth,
    name: str,
) -> None:
    """That the registry takes the credential, as `docker login` does it."""
    if isinstance(auth, NoAuth):
        if challenge is Challenge.BASIC:
            message = f"the upstream {name} serves nobody without {_NAMED}"
            raise UpstreamRefused(message)
        return
    if challenge is Challenge.NONE:
        return  # who asks nobody takes any; a repository may ask
    if (header := await authoriser.prove()) is None:
        if challenge is Challenge.BASIC:
            message = f"the upstream {name} wants {_NAMED}"
            raise UpstreamRefused(message)
        return
    called, headers = f"the upstream {name}", {"Authorization": header}
    async with outbound.ask("GET", at.url("/v2/"), called=called, headers=headers) as answer:
        if answer.status >= 500:  # noqa: PLR2004
            message = f"{called} fails ({answer.status}); try again, or save it unchecked"
            raise UpstreamDown(message, status=answer.status, reason="status")
        if answer.status != 200:  # noqa: PLR2004
            message = f"{called} refuses the credential ({answer.status}); {_REMEDY}"
            raise UpstreamRefused(message, status=answer.status)


def _unseen(_: Observation) -> None:
    """Nobody counts the calls of a check."""
