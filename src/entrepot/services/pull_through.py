"""What can be set on a pull-through repository, and who may make one of an upstream."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from entrepot.db import upstreams
from entrepot.db.database import Transaction
from entrepot.model.access import Action, Actor, Place, is_match
from entrepot.model.errors import Denied, FieldInvalid
from entrepot.model.tenancy import Organisation
from entrepot.model.upstreams import PullThrough, Upstream
from entrepot.services.access import Access

FRESHNESS = 31_536_000  # seconds, at most
FROM_SYNC = "sync"  # a freshness: what the last sync left
WORDS = 50  # patterns and platforms, of each kind
SYNC = r"all|newest:[1-9][0-9]{0,5}|[A-Za-z0-9._*-]{1,128}"
WARM = r"[A-Za-z0-9._*-]{1,128}"
PLATFORM = r"[a-z0-9]{1,32}/[a-z0-9_]{1,32}(/[a-z0-9]{1,32})?"
IS_FIXED = (
    "what a repository comes from is chosen when it is made, and stays; make a new repository: "
    "entrepot repository create PATH --upstream NAME --upstream-repository PATH"
)

_FIXED = frozenset({"name", "path", "url"})
_PATTERNS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "sync": (re.compile(SYNC), "sync is all, newest:N such as newest:20, or a pattern such as v*"),
    "warm_tags": (re.compile(WARM), f"at most {WORDS} patterns of tags such as v*"),
    "warm_platforms": (re.compile(PLATFORM), f"at most {WORDS} platforms such as linux/amd64"),
}
_FLAGS = frozenset({"accepts_push", "may_shadow", "keeps_deleted"})


@dataclass(frozen=True, slots=True)
class UpstreamPath:
    """A repository of an upstream, as the upstream names it."""

    upstream: Upstream
    path: str


def require_fields(fields: Mapping[str, object]) -> None:
    """Raises FieldInvalid for what cannot be set, or not to this."""
    for field, value in fields.items():
        if field in _FIXED:
            raise FieldInvalid(IS_FIXED, field=f"upstream.{field}")
        if field == "freshness":
            _require_freshness(value)
        elif field in _PATTERNS:
            pattern, message = _PATTERNS[field]
            words = value if isinstance(value, tuple) else (value,)
            if len(words) > WORDS or not all(
                word is None or pattern.fullmatch(str(word)) for word in words
            ):
                raise FieldInvalid(message, field=f"upstream.{field}")
        elif field not in _FLAGS:
            raise FieldInvalid(f"{field} is nothing to set here", field=f"upstream.{field}")


def changed(before: PullThrough, fields: Mapping[str, object]) -> PullThrough:
    """What the fields make of it; what is not named stays. Raises FieldInvalid."""
    values = {name: value for name, value in fields.items() if name != "freshness"}
    after = replace(before, **values)  # type: ignore[arg-type]  # by require_fields
    freshness = fields.get("freshness", before.freshness)
    if freshness == FROM_SYNC and after.sync is None:
        message = "without a sync there is no last one to answer from; say what to sync too"
        raise FieldInvalid(message, field="upstream.freshness")
    if fields.get("may_shadow") and not after.accepts_push:
        message = (
            "pushes over the upstream's tags are for where pushes are accepted: --accept-push too"
        )
        raise FieldInvalid(message, field="upstream.may_shadow")
    return replace(
        after,
        freshness=freshness if isinstance(freshness, int) else None,
        may_shadow=after.may_shadow and after.accepts_push,
    )


async def use(
    tx: Transaction, access: Access, actor: Actor, organisation: Organisation, chosen: UpstreamPath
) -> PullThrough:
    """What a new repository of `chosen` begins as; the upstream stays until the transaction ends.

    Raises FieldInvalid, Denied.
    """
    upstream = chosen.upstream
    if not await upstreams.lock(tx, upstream.id):
        raise FieldInvalid(no_upstream(upstream.name), field="upstream.name")
    require_usable(access, actor, organisation, chosen)
    return PullThrough(upstream.id, upstream.name, chosen.path)


def require_usable(
    access: Access, actor: Actor, organisation: Organisation, chosen: UpstreamPath
) -> None:
    """Let whoever manages upstreams use any, others what it opens to members.

    Raises FieldInvalid, as for an upstream that is not there; Denied for another path of it.
    """
    if may_manage(access, actor, organisation):
        return
    patterns = chosen.upstream.member_patterns
    if not patterns:
        raise FieldInvalid(no_upstream(chosen.upstream.name), field="upstream.name")
    if not any(is_match(pattern, chosen.path) for pattern in patterns):
        message = (
            f"members may mirror {', '.join(patterns)} of {chosen.upstream.name}; ask an "
            "administrator of the organisation for others"
        )
        raise Denied(message, action=str(Action.MANAGE_UPSTREAMS))


def require_no_project(place: Place) -> None:
    """Raises FieldInvalid where a project's own builds are pushed."""
    if place.project_id is not None:
        message = "this is where a project's builds are pushed; an upstream takes another path"
        raise FieldInvalid(message, field="path")


def may_manage(access: Access, actor: Actor, organisation: Organisation) -> bool:
    """Whether somebody may make and change the upstreams of an organisation."""
    return Action.MANAGE_UPSTREAMS in access.allowed_in(actor.credential, organisation.id)


def no_upstream(name: str) -> str:
    """The same for one that is not there, and one that may not be seen."""
    return f"there is no upstream {name} here that you may use: entrepot upstream list"


def _require_freshness(value: object) -> None:
    is_number = isinstance(value, int) and 0 <= value <= FRESHNESS
    if value is not None and value != FROM_SYNC and not is_number:
        message = f"freshness is a number of seconds up to {FRESHNESS}, or {FROM_SYNC}"
        raise FieldInvalid(message, field="upstream.freshness")
