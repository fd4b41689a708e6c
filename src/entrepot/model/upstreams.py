"""Other registries that we stand in front of: what they are, how we prove who we are, what we keep.

Times are UTC microseconds. Secrets are part of `Auth` values alone, which live sealed in the
database and open in memory while a credential is in use.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from entrepot.model.stored import StoredManifest


class AuthKind(StrEnum):
    """How we prove who we are to an upstream."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    ECR = "ecr"
    GOOGLE = "google"
    AZURE = "azure"


@dataclass(frozen=True, slots=True)
class NoAuth:
    """Nobody in particular; a bearer challenge is still answered, for an anonymous token."""


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """A user and a password or access token: sent as Basic, or to the token realm."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BearerAuth:
    """A token that the registry takes as it is."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EcrAuth:
    """AWS: static keys, or the node's own role where both keys are empty.

    With `role_arn` that identity assumes the role first, with an `external_id` of ours.
    """

    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    role_arn: str = ""
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class GoogleAuth:
    """A service account's key file, as JSON text: the password of the user `_json_key`."""

    key_json: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AzureAuth:
    """A service principal; its Entra token is exchanged for one of the registry."""

    tenant: str
    client_id: str
    client_secret: str = field(repr=False)


Auth = NoAuth | BasicAuth | BearerAuth | EcrAuth | GoogleAuth | AzureAuth

AUTH_KINDS: dict[AuthKind, type[Auth]] = {
    AuthKind.NONE: NoAuth,
    AuthKind.BASIC: BasicAuth,
    AuthKind.BEARER: BearerAuth,
    AuthKind.ECR: EcrAuth,
    AuthKind.GOOGLE: GoogleAuth,
    AuthKind.AZURE: AzureAuth,
}


def external_id_of(organisation_public_id: str) -> str:
    """What an organisation's roles must ask for before we may assume them.

    It is ours, not the caller's: so nobody can have us assume a role that was opened for another
    organisation. It needs no secrecy, and is known before the upstream is made.
    """
    return f"entrepot-{organisation_public_id}"


@dataclass(frozen=True, slots=True)
class Preset:
    """A known kind of registry. `origin` is empty where every customer has one of their own.

    `aliases` are the hosts by which image references and `?ns=` name it. What is at another address
    stands in for it, unless it `has_copies`: people run registries of that kind themselves.
    """

    name: str
    origin: str
    auth_kinds: tuple[AuthKind, ...]
    aliases: tuple[str, ...] = ()
    library: str = ""  # what stands before a name of one component
    has_copies: bool = False

    def is_named(self, host: str, origin: str) -> bool:
        """Whether a reference to `host` means the registry of this kind at `origin`."""
        return host in self.aliases and (origin == self.origin or not self.has_copies)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "docker-hub",
            "https://registry-1.docker.io",
            (AuthKind.BASIC, AuthKind.NONE),
            ("docker.io", "index.docker.io", "registry-1.docker.io"),
            library="library",
        ),
        Preset("ghcr", "https://ghcr.io", (AuthKind.NONE, AuthKind.BASIC), ("ghcr.io",)),
        Preset(
            "gitlab",
            "https://registry.gitlab.com",
            (AuthKind.NONE, AuthKind.BASIC),
            ("registry.gitlab.com",),
            has_copies=True,
        ),
        Preset(
            "quay",
            "https://quay.io",
            (AuthKind.NONE, AuthKind.BASIC),
            ("quay.io",),
            has_copies=True,
        ),
        Preset("ecr", "", (AuthKind.ECR,)),
        Preset("ecr-public", "https://public.ecr.aws", (AuthKind.NONE,), ("public.ecr.aws",)),
        Preset("gar", "https://us-docker.pkg.dev", (AuthKind.NONE, AuthKind.GOOGLE)),
        Preset("acr", "", (AuthKind.AZURE, AuthKind.BASIC, AuthKind.NONE)),
        Preset("custom", "", (AuthKind.NONE, AuthKind.BASIC, AuthKind.BEARER)),
    )
}


class Challenge(StrEnum):
    """How a registry asks who we are (distribution token specification)."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"


@dataclass(frozen=True, slots=True)
class Handshake:
    """What an upstream said when it was checked. Credentials go to its origin and `realm` only."""

    challenge: Challenge
    realm: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream registry as lists show it: everything but its secret.

    `auth_name` tells its owner which credential it is: a user name, a key id, a role.
    `handshake` is pinned when it is saved; None for what was saved unchecked. `version` counts
    changes by people, `credential_version` those of what is sent.
    """

    id: int
    organisation_id: int
    organisation_slug: str
    name: str
    preset: str
    origin: str
    created_at: int
    auth_kind: AuthKind = AuthKind.NONE
    auth_name: str = ""
    external_id: str = ""
    handshake: Handshake | None = None
    checked_at: int | None = None
    check_error: str | None = None
    member_patterns: tuple[str, ...] = ()
    credential_version: int = 1
    version: int = 1


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """How an upstream is doing, as all nodes have seen it.

    `open_until`: nothing is asked before then (the breaker), `busy_until`: no manifest or list is,
    for that is what upstreams count; `reason` says why. `limit_*`: what its rate-limit headers
    said last. `last_error` is what went wrong last, also where nobody was paused for it. The rest
    are sums since the upstream was added.
    """

    open_until: int = 0
    busy_until: int = 0
    reason: str = ""
    limit: int | None = None
    limit_remaining: int | None = None
    limit_window_seconds: int | None = None
    limit_seen_at: int | None = None
    last_error: str | None = None
    last_failed_at: int | None = None
    requests: int = 0
    bytes: int = 0
    errors: int = 0
    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    stale: int = 0


SYNCED = -1  # a freshness: the last sync is what counts
DEFAULT_FRESHNESS = 60


@dataclass(frozen=True, slots=True)
class Source:
    """Where a pull-through repository comes from, as a request needs it.

    `freshness` is in seconds, SYNCED for none but the last sync. `accepts_push` lets people push
    beside what is mirrored, `may_shadow` over a tag of the upstream too.
    """

    upstream_id: int
    path: str
    freshness: int = DEFAULT_FRESHNESS
    accepts_push: bool = False
    may_shadow: bool = False


@dataclass(frozen=True, slots=True)
class PullThrough:
    """What a pull-through repository has that others have not, as lists show it.

    `freshness` in seconds; None for what the last sync left, or DEFAULT_FRESHNESS without one.
    `sync` is `all`, `newest:N` or a pattern of tags. `keeps_deleted`: a tag that is gone upstream
    stays. `warm_tags` are patterns of tags whose blobs a sync brings too, for `warm_platforms`.
    """

    upstream_id: int
    upstream_name: str
    path: str
    freshness: int | None = None
    accepts_push: bool = False
    may_shadow: bool = False
    sync: str | None = None
    keeps_deleted: bool = False
    warm_tags: tuple[str, ...] = ()
    warm_platforms: tuple[str, ...] = ()
    accessed_at: int | None = None
    last_synced_at: int | None = None
    last_sync_error: str | None = None

    @property
    def source(self) -> Source:
        """The part of it that a request needs."""
        freshness = self.freshness
        if freshness is None:
            freshness = DEFAULT_FRESHNESS if self.sync is None else SYNCED
        return Source(
            self.upstream_id,
            self.path,
            freshness,
            accepts_push=self.accepts_push,
            may_shadow=self.may_shadow,
        )


@dataclass(frozen=True, slots=True)
class NamespaceMirror:
    """A prefix of an organisation's paths that mirrors a whole upstream.

    `prefix` is empty for all of the organisation's names that nothing was pushed to. Patterns match
    the upstream's paths; `allow` empty allows all that `deny` does not name. `is_public` is what
    was set; it counts while the organisation allows public repositories. `preset` and `origin` are
    the upstream's.
    """

    id: int
    organisation_id: int
    organisation_slug: str
    prefix: str
    upstream_id: int
    upstream_name: str
    upstream_prefix: str
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    freshness: int
    created_at: int
    version: int
    preset: str
    origin: str
    is_public: bool
    allows_public: bool

    @property
    def is_open(self) -> bool:
        """Whether everybody may pull through it now."""
        return self.is_public and self.allows_public


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest as an upstream sent it, its digest not compared with anything yet."""

    body: bytes
    media_type: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class RemoteHead:
    """What an upstream says of a manifest without sending it."""

    media_type: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class Observation:
    """What one answer of an upstream told besides its content. Times in seconds."""

    status: int
    retry_after: int | None = None
    limit: int | None = None
    limit_remaining: int | None = None
    limit_window_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What an upstream said of a tag, a digest or a list, and until when somebody asks again.

    `claimed_until` is by the clock of whoever asks; 0 where nobody does.
    """

    digest: str | None
    checked_at: int | None
    listed_at: int | None
    claimed_until: int


@dataclass(frozen=True, slots=True)
class MirroredTag:
    """A tag of a pull-through repository: what it names here, and what the upstream said when."""

    manifest: StoredManifest | None
    is_pushed: bool
    digest: str | None
    checked_at: int | None
