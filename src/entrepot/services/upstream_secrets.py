"""The credentials of upstream registries: sealed in the database, open in memory while in use."""

import json
from dataclasses import asdict

from entrepot.db.sealed import UPSTREAMS
from entrepot.identity.seal import Seal
from entrepot.model.errors import SealBroken, SealKeyMissing, UpstreamRefused
from entrepot.model.upstreams import AUTH_KINDS, Auth, AuthKind, NoAuth, Upstream


def seal_auth(seal: Seal, organisation_id: int, upstream_id: int, auth: Auth) -> str | None:
    """A credential as the row of this upstream keeps it; None where there is no secret."""
    if isinstance(auth, NoAuth):
        return None
    secret = json.dumps(asdict(auth)).encode()
    return seal.seal(secret, UPSTREAMS.bound_to(organisation_id, upstream_id))


def open_auth(seal: Seal, upstream: Upstream, sealed: str | None) -> Auth:
    """The credential of an upstream. Raises UpstreamRefused for one that cannot be opened."""
    if upstream.auth_kind is AuthKind.NONE:
        return NoAuth()
    try:
        secret = seal.open(sealed or "", UPSTREAMS.bound_to(upstream.organisation_id, upstream.id))
    except (SealBroken, SealKeyMissing) as error:
        raise UpstreamRefused(
            f"the stored credential of the upstream {upstream.name} cannot be opened;"
            f" an administrator of {upstream.organisation_slug} can set it again:"
            f" entrepot upstream rotate {upstream.name}",
            reason=error.message,
        ) from error
    return AUTH_KINDS[upstream.auth_kind](**json.loads(secret))


def kind_of(auth: Auth) -> AuthKind:
    """Which kind of credential this is."""
    return next(kind for kind, type_ in AUTH_KINDS.items() if isinstance(auth, type_))
