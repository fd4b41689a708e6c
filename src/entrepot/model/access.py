"""Who acts, what they may ask to do, and on what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from entrepot.model.upstreams import Source
from entrepot.model.usage import NO_QUOTA, Quota


class Action(StrEnum):
    """What a route does; each route declares one."""

    PUBLIC = "public"
    LOGIN = "login"

    # Content.
    CATALOG = "catalog"
    PULL = "pull"
    PUSH = "push"
    DELETE_TAG = "delete-tag"
    DELETE = "delete"

    # An organisation, and what is in it.
    BROWSE = "browse"
    CREATE_REPOSITORY = "create-repository"
    MANAGE_REPOSITORY = "manage-repository"
    CREATE_PROJECT = "create-project"
    MANAGE_PROJECT = "manage-project"
    CREATE_PULL_TOKEN = "create-pull-token"  # noqa: S105  # a name
    MANAGE_TOKENS = "manage-tokens"
    MANAGE_UPSTREAMS = "manage-upstreams"
    MANAGE_MEMBERS = "manage-members"
    MANAGE_OWNERS = "manage-owners"
    AUDIT = "audit"
    SEE_ORGANISATION = "see-organisation"
    SEE_USAGE = "see-usage"
    MANAGE_ORGANISATION = "manage-organisation"
    OWN_ORGANISATION = "own-organisation"

    # The installation.
    ADMINISTER = "administer"


class Kind(StrEnum):
    """The kinds of credential. The operator is whoever can open the data folder or database."""

    ANONYMOUS = "anonymous"
    OPERATOR = "operator"
    USER = "user"
    ORGANISATION = "org"
    PROJECT = "project"
    PULL = "pull"


class Role(StrEnum):
    """What a user is in an organisation."""

    READER = "reader"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Credential:
    """A token's row: whose it is and how far it reaches. `token_id` 0 is nobody.

    `name` is the user's, or the token's own. `roles` are by organisation, `role_ends` says when
    those end that do. `linked` are repositories that the project may use.
    """

    token_id: int
    kind: Kind
    user_id: int | None = None
    name: str = ""
    is_administrator: bool = False
    roles: Mapping[int, Role] = field(default_factory=dict)
    role_ends: Mapping[int, int] = field(default_factory=dict)
    organisation_id: int | None = None
    may_manage: bool = False
    project_id: int | None = None
    linked: frozenset[int] = frozenset()
    patterns: tuple[str, ...] | None = None
    actions: frozenset[str] | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, for the audit log: the client's address, and the request's id."""

    address: str = ""
    request_id: str = ""


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Actor:
    """A credential as one request presents it.

    `granted` is what a bearer token covers, by the name the client asked for; None for Basic, which
    covers all that the credential does. `expires_at` is the earlier end of the two.
    """

    credential: Credential
    granted: Mapping[str, frozenset[str]] | None = None
    expires_at: int | None = None
    origin: Origin = NOWHERE

    @property
    def token_id(self) -> int:
        """The row of the credential, 0 for nobody."""
        return self.credential.token_id

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody in particular is asking."""
        return self.credential.kind is Kind.ANONYMOUS


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address leads: a path in an organisation, where no repository may be yet.

    `creators` is the lowest role that may make one; `read_only` names what is, if anything:
    organisation or registry. `source` is where one would come from, below a namespace mirror, and
    `is_public` whether everybody may pull it. `quota` is the organisation's, and no part of where.
    """

    organisation_id: int
    path: str
    project_id: int | None = None
    creators: Role = Role.MEMBER
    read_only: str | None = None
    source: Source | None = None
    is_public: bool = False
    quota: Quota = field(default=NO_QUOTA, compare=False)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository's row. `read_only` names what is, if anything: itself or what it is in.

    Patterns: tags that neither move nor go, and tags that do not go. `source` is where a
    pull-through repository comes from, `quota` its organisation's.
    """

    id: int
    organisation_id: int
    path: str
    project_id: int | None = None
    is_public: bool = False
    read_only: str | None = None
    immutable_tags: tuple[str, ...] = ()
    protected_tags: tuple[str, ...] = ()
    source: Source | None = None
    quota: Quota = field(default=NO_QUOTA, compare=False)


def is_match(pattern: str, path: str) -> bool:
    """Whether `path` fits `pattern`: `*` stays within a component, `**` crosses them."""
    glob = _compiled(pattern)
    reached = glob.skip(1)
    for letter in path:
        stay = glob.crossing if letter == "/" else glob.crossing | glob.within
        reached = glob.skip((reached & glob.literals.get(letter, 0)) << 1 | reached & stay)
    return bool(reached >> glob.length)


@dataclass(frozen=True, slots=True)
class _Glob:
    """A pattern's parts as bits: the time to match grows with the path, whatever the pattern.

    (As a regular expression `**a**a**a**b` would try every way to part the path.)
    """

    length: int
    literals: Mapping[str, int]
    within: int
    crossing: int

    def skip(self, reached: int) -> int:
        """A wildcard may also match nothing; two never stand side by side."""
        return reached | (reached & (self.within | self.crossing)) << 1


@lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> _Glob:
    parts = re.findall(r"\*+|[^*]", pattern)
    literals: dict[str, int] = {}
    within = crossing = 0
    for number, part in enumerate(parts):
        if part == "*":
            within |= 1 << number
        elif part.startswith("**"):
            crossing |= 1 << number
        else:
            literals[part] = literals.get(part, 0) | 1 << number
    return _Glob(len(parts), literals, within, crossing)
