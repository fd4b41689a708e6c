"""What is known of an upstream registry, for its row, for lists and for the audit log."""

from dataclasses import dataclass, replace

from entrepot.model.upstreams import Auth, EcrAuth, Upstream, UpstreamState
from entrepot.services.upstream_forms import auth_name_of
from entrepot.services.upstream_secrets import kind_of
from entrepot.services.upstream_trials import Tried


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """An upstream and how it is doing. `is_managed`: the caller may see whose credential it is."""

    upstream: Upstream
    state: UpstreamState
    is_managed: bool


def facts_of(
    upstream: Upstream, state: UpstreamState, now: int, *, is_managed: bool
) -> UpstreamFacts:
    """What is known now: a pause that the upstream asked for ends by itself."""
    if state.busy_until <= now:
        reason = state.reason if state.open_until else ""
        state = replace(state, busy_until=0, reason=reason)
    return UpstreamFacts(upstream, state, is_managed)


def tried_with(upstream: Upstream, auth: Auth, tried: Tried, now: int) -> Upstream:
    """The upstream with another credential, and how that was taken."""
    return replace(
        upstream,
        auth_kind=kind_of(auth),
        auth_name=auth_name_of(auth),
        external_id=auth.external_id if isinstance(auth, EcrAuth) else "",
        handshake=tried.handshake,
        checked_at=now if tried.handshake else None,
        check_error=tried.error,
    )


def shown(upstream: Upstream) -> dict[str, object]:
    """What the audit log says of an upstream."""
    return {
        "name": upstream.name,
        "preset": upstream.preset,
        "url": upstream.origin,
        "auth": str(upstream.auth_kind),
        "credential": upstream.auth_name,
        "realm": upstream.handshake.realm if upstream.handshake else None,
        "is_checked": upstream.handshake is not None,
        "member_patterns": list(upstream.member_patterns),
    }
