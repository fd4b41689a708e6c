"""Upstream registries: what pull-through repositories and mirrors get their content from."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from entrepot.api.call import (
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    Version,
    declares,
    moment,
    moment_or_none,
    page_of,
    row_of,
    tag,
)
from entrepot.model import upstreams
from entrepot.model.access import Action
from entrepot.model.errors import FieldInvalid
from entrepot.model.ids import to_text
from entrepot.model.upstreams import AUTH_KINDS, PRESETS, AuthKind
from entrepot.services import upstream_forms
from entrepot.services.upstream_facts import UpstreamFacts
from entrepot.services.upstream_forms import PATTERN, PATTERNS

router = APIRouter(tags=["upstreams"])

_PATHS = (
    "paths of the upstream that members may make pull-through repositories of: `library/*`, `**`"
)
# Forms are declared here, and refused by the services, whose sentences are for people.
Name = Annotated[
    str, Field(max_length=63, json_schema_extra={"pattern": f"^{upstream_forms.NAME}$"})
]
Preset = Annotated[str, Field(max_length=32, description=f"one of {', '.join(PRESETS)}")]
Url = Annotated[str, Field(max_length=512, description="scheme and host, without a path")]
Account = Annotated[
    str, Field(max_length=64, description="of AWS: 12 digits; of Azure: the registry's name")
]
Region = Annotated[str, Field(max_length=64, description="of AWS or Google: `eu-central-1`")]
Patterns = Annotated[
    list[Annotated[str, Field(max_length=255, json_schema_extra={"pattern": f"^{PATTERN}$"})]],
    Field(max_length=PATTERNS, description=_PATHS),
]
Secret = Annotated[str, Field(max_length=16_384)]
Word = Annotated[str, Field(max_length=1_024)]
Unchecked = Annotated[
    bool, Field(description="keep it although the upstream does not answer now (502, 504, 429)")
]
Anonymous = Annotated[
    bool, Field(description="without a credential, where an upstream limits that: Docker Hub")
]


class Credential(Body):
    """How we prove who we are. What a kind does not name stays out; nobody can read it again."""

    kind: AuthKind = Field(strict=False)
    username: Annotated[Word, Field(description="basic")] = ""
    password: Annotated[Secret, Field(description="basic: a password or access token")] = ""
    token: Annotated[Secret, Field(description="bearer")] = ""
    access_key_id: Annotated[Word, Field(description="ecr; empty: this server's identity")] = ""
    secret_access_key: Annotated[Secret, Field(description="ecr")] = ""
    role_arn: Annotated[Word, Field(description="ecr: a role to assume first")] = ""
    key_json: Annotated[Secret, Field(description="google: a service account's key file")] = ""
    tenant: Annotated[Word, Field(description="azure")] = ""
    client_id: Annotated[Word, Field(description="azure: of the service principal")] = ""
    client_secret: Annotated[Secret, Field(description="azure")] = ""


class NewUpstream(Body):
    """An upstream to add. A preset's name as `name` is enough for those with one address."""

    name: Name
    preset: Preset | None = None
    url: Url | None = None
    account: Account | None = None
    region: Region | None = None
    credential: Credential | None = None
    is_anonymous: Anonymous = False
    save_unchecked: Unchecked = False
    member_patterns: Patterns = Field(default_factory=list)


class UpstreamChanges(Body):
    """What to change. A new credential is tried first, and the old one stays if it fails."""

    name: Name = ""
    url: Url = ""
    credential: Credential | None = None
    is_anonymous: Anonymous = False
    save_unchecked: Unchecked = False
    member_patterns: Patterns = Field(default_factory=list)


class UpstreamCheck(Body):
    """How to check."""

    accept_realm: Annotated[
        bool, Field(description="pin another token service than the one that was seen first")
    ] = False


class RateLimit(Shown):
    """What the upstream said of its limit last."""

    limit: int | None
    remaining: int | None
    window_seconds: int | None
    seen_at: datetime


class UpstreamState(Shown):
    """How it is doing, and sums since it was added; up to ten seconds late."""

    paused_until: datetime | None = Field(
        description="it failed, and is not asked before; then by the next who pulls"
    )
    limited_until: datetime | None = Field(description="it has us wait with manifests and lists")
    reason: str | None = Field(description="why it is not asked")
    last_error: str | None = Field(description="what went wrong last")
    last_failed_at: datetime | None = Field(description="when that was")
    rate_limit: RateLimit | None
    requests: int
    bytes: int
    errors: int
    hits: int = Field(description="served without asking it")
    misses: int = Field(description="fetched from it")
    coalesced: int = Field(description="callers that got what was fetched for another")
    stale: int = Field(description="served while it could not be asked")


class Upstream(Shown):
    """An upstream registry, without its credential's secret."""

    id: str
    name: str
    organisation: str = Field(description="slug")
    preset: str
    url: str
    credential_kind: AuthKind
    credential_name: str | None = Field(description="whose it is; for administrators")
    external_id: str | None = Field(description="for the trust policy of a role; the same")
    realm: str | None = Field(description="its token service: the credential goes nowhere else")
    is_checked: bool
    checked_at: datetime | None
    check_error: str | None
    member_patterns: list[str] = Field(description=_PATHS)
    created_at: datetime
    state: UpstreamState


@router.get("/organisations/{organisation}/upstreams", **declares(Action.BROWSE))
async def list_upstreams(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Upstream]:
    """The upstreams of an organisation that you may use, by name.

    Administrators see all, members those with patterns for them, readers none.
    """
    found = await services.upstreams.page(
        caller, organisation, after=window.after, limit=window.limit
    )
    return page_of(found, _shown, lambda facts: facts.upstream.name)


@router.post(
    "/organisations/{organisation}/upstreams", **declares(Action.MANAGE_UPSTREAMS, creates=True)
)
async def add_upstream(
    services: Services, caller: Caller, organisation: str, new: NewUpstream, response: Response
) -> Upstream:
    """Add an upstream, once its address and credential were tried.

    What is wrong is refused with 422, and nothing is kept.
    """
    made = await services.upstreams.create(
        caller,
        organisation,
        upstream_forms.NewUpstream(
            name=new.name,
            preset=new.preset or "",
            url=new.url or "",
            account=new.account or "",
            region=new.region or "",
            auth=_auth(new.credential),
            is_anonymous=new.is_anonymous,
            save_unchecked=new.save_unchecked,
            member_patterns=tuple(new.member_patterns),
        ),
    )
    tag(response, made.upstream.version)
    return _shown(made)


@router.get("/upstreams/{upstream}", **declares(Action.BROWSE))
async def show_upstream(
    services: Services, caller: Caller, upstream: str, response: Response
) -> Upstream:
    """One upstream that you may use, and how it is doing."""
    found = await services.upstreams.get(caller, row_of(upstream, "upstream registry"))
    tag(response, found.upstream.version)
    return _shown(found)


@router.patch("/upstreams/{upstream}", **declares(Action.MANAGE_UPSTREAMS))
async def change_upstream(
    services: Services,
    caller: Caller,
    upstream: str,
    changes: UpstreamChanges,
    version: Version,
    response: Response,
) -> Upstream:
    """Rename an upstream, open it to members, or give it another credential or address.

    Another address needs the credential again, and that nothing uses the upstream.
    """
    named = changes.model_fields_set
    changed = await services.upstreams.update(
        caller,
        row_of(upstream, "upstream registry"),
        upstream_forms.UpstreamChanges(
            name=changes.name if "name" in named else None,
            url=changes.url if "url" in named else None,
            auth=_auth(changes.credential),
            is_anonymous=changes.is_anonymous,
            save_unchecked=changes.save_unchecked,
            member_patterns=(
                tuple(changes.member_patterns) if "member_patterns" in named else None
            ),
        ),
        version=version,
    )
    tag(response, changed.upstream.version)
    return _shown(changed)


@router.post("/upstreams/{upstream}/check", **declares(Action.MANAGE_UPSTREAMS))
async def check_upstream(
    services: Services,
    caller: Caller,
    upstream: str,
    check: UpstreamCheck,
    response: Response,
) -> Upstream:
    """Try an upstream's address and credential now; `check_error` says what is wrong, if anything.

    That also ends a pause after failures.
    """
    checked = await services.upstreams.check(
        caller, row_of(upstream, "upstream registry"), accept_realm=check.accept_realm
    )
    tag(response, checked.upstream.version)
    return _shown(checked)


@router.delete("/upstreams/{upstream}", status_code=204, **declares(Action.MANAGE_UPSTREAMS))
async def delete_upstream(
    services: Services, caller: Caller, upstream: str, version: Version
) -> None:
    """Remove an upstream that nothing uses, and forget its credential."""
    row = row_of(upstream, "upstream registry")
    await services.upstreams.delete(caller, row, version=version)


_NEEDED: dict[AuthKind, tuple[str, ...]] = {
    AuthKind.NONE: (),
    AuthKind.BASIC: ("username", "password"),
    AuthKind.BEARER: ("token",),
    AuthKind.ECR: (),
    AuthKind.GOOGLE: ("key_json",),
    AuthKind.AZURE: ("tenant", "client_id", "client_secret"),
}
_OPTIONAL: dict[AuthKind, tuple[str, ...]] = {
    AuthKind.ECR: ("access_key_id", "secret_access_key", "role_arn")
}


def _auth(given: Credential | None) -> upstreams.Auth | None:
    """Raises FieldInvalid for what its kind needs and has not, or does not take."""
    if given is None:
        return None
    fields = {name: value for name, value in given.model_dump(exclude={"kind"}).items() if value}
    needed, optional = _NEEDED[given.kind], _OPTIONAL.get(given.kind, ())
    for name in needed:
        if name not in fields:
            message = f"a credential of the kind {given.kind} has: {', '.join(needed)}"
            raise FieldInvalid(message, field=f"credential.{name}")
    for name in fields:
        if name not in (*needed, *optional):
            message = f"a credential of the kind {given.kind} has no {name}"
            raise FieldInvalid(message, field=f"credential.{name}")
    return AUTH_KINDS[given.kind](**fields)


def _shown(facts: UpstreamFacts) -> Upstream:
    found, manages = facts.upstream, facts.is_managed
    return Upstream(
        id=to_text(found.id),
        name=found.name,
        organisation=found.organisation_slug,
        preset=found.preset,
        url=found.origin,
        credential_kind=found.auth_kind,
        credential_name=(found.auth_name or None) if manages else None,
        external_id=(found.external_id or None) if manages else None,
        realm=(found.handshake.realm or None) if found.handshake else None,
        is_checked=found.handshake is not None,
        checked_at=moment_or_none(found.checked_at),
        check_error=found.check_error,
        member_patterns=list(found.member_patterns),
        created_at=moment(found.created_at),
        state=_state(facts.state),
    )


def _state(state: upstreams.UpstreamState) -> UpstreamState:
    rate_limit = None
    if state.limit_seen_at is not None:
        rate_limit = RateLimit(
            limit=state.limit,
            remaining=state.limit_remaining,
            window_seconds=state.limit_window_seconds,
            seen_at=moment(state.limit_seen_at),
        )
    return UpstreamState(
        paused_until=moment(state.open_until) if state.open_until else None,
        limited_until=moment(state.busy_until) if state.busy_until else None,
        reason=state.reason or None,
        last_error=state.last_error,
        last_failed_at=moment_or_none(state.last_failed_at),
        rate_limit=rate_limit,
        requests=state.requests,
        bytes=state.bytes,
        errors=state.errors,
        hits=state.hits,
        misses=state.misses,
        coalesced=state.coalesced,
        stale=state.stale,
    )
