"""Organisations, people, projects, tokens and what they did, as the services speak of them.

Times are UTC microseconds. `version` counts changes to a row; the management API's ETag is made of
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from entrepot.model.access import Kind, Role
from entrepot.model.retention import Retention
from entrepot.model.upstreams import PullThrough
from entrepot.model.usage import Quota


@dataclass(frozen=True, slots=True)
class Organisation:
    """An organisation. `price_micros` is per GB-month, in millionths of the currency."""

    id: int
    public_id: str
    slug: str
    name: str
    created_at: int
    creators: Role
    allows_public: bool
    is_read_only: bool
    retention: Retention | None
    price_micros: int
    quota: Quota
    version: int


@dataclass(frozen=True, slots=True)
class Project:
    """A project of an organisation."""

    id: int
    public_id: str
    name: str
    organisation_id: int
    organisation_public_id: str
    organisation_slug: str
    created_at: int
    version: int


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a name of their own on this server."""

    id: int
    name: str
    is_administrator: bool
    has_password: bool
    created_at: int
    disabled_at: int | None
    version: int


@dataclass(frozen=True, slots=True)
class Member:
    """A user in an organisation. With `expires_at` only until then (break-glass)."""

    user_id: int
    user: str
    role: Role
    since: int
    expires_at: int | None
    version: int


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open offer to become a member; its secret is known to whoever was sent the link.

    `created_by` is a user's row or an organisation token's, 0 for the operator; `inviter` its name.
    """

    id: int
    organisation_id: int
    role: Role
    note: str
    created_by: int
    inviter: str
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """A repository and its policies. Patterns match tags.

    `is_public` is what was set; it counts while the organisation allows public repositories.
    `upstream` is where a pull-through repository comes from.
    """

    id: int
    path: str
    organisation_id: int
    organisation_public_id: str
    organisation_slug: str
    project_id: int | None
    project_public_id: str | None
    project_name: str | None
    is_public: bool
    is_read_only: bool
    immutable_tags: tuple[str, ...]
    protected_tags: tuple[str, ...]
    created_at: int
    version: int
    upstream: PullThrough | None = None


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """A token as lists show it: everything but its secret, which nobody has."""

    id: int
    kind: Kind
    name: str
    user_id: int | None
    user: str | None
    organisation_id: int | None
    organisation_slug: str | None
    project_id: int | None
    project_public_id: str | None
    patterns: tuple[str, ...] | None
    actions: frozenset[str] | None
    may_manage: bool
    created_at: int
    created_by: str | None
    expires_at: int | None
    last_used_at: int | None
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit log before it is written: what was done, and on what."""

    action: str
    object_kind: str
    object_id: str
    object_name: str
    organisation_id: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the audit log: who did what, on what, when, from where, by which credential."""

    id: int
    at: int
    organisation_id: int | None
    action: str
    object_kind: str
    object_id: str
    object_name: str
    actor_kind: str
    actor_name: str
    user_id: int | None
    token_id: int | None
    address: str
    request_id: str
    details: Mapping[str, object]
