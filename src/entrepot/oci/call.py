"""What a handler gets: the registry's services, and one call with all that is known of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.errors import NameUnknown, RequestInvalid
from entrepot.model.manifests import ManifestLimits
from entrepot.model.names import RepositoryName
from entrepot.model.rights import scope_word
from entrepot.services.access import Access
from entrepot.services.addresses import NO_REPOSITORY, Address, Addresses
from entrepot.services.credentials import Credentials
from entrepot.services.delete import Delete
from entrepot.services.first_pull import FirstPull
from entrepot.services.last_access import LastAccess
from entrepot.services.last_pulls import LastPulls
from entrepot.services.mirror import Mirror
from entrepot.services.mount import Mount
from entrepot.services.node_cache import NodeCache
from entrepot.services.pull import Pull
from entrepot.services.push import Push
from entrepot.services.quotas import Quotas
from entrepot.services.token_service import TokenService
from entrepot.services.uploads import Uploads
from entrepot.web.answers import Answer
from entrepot.web.delivery import Delivery
from entrepot.web.hosts import Hosts
from entrepot.web.requests import Request


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    """The numbers of this surface."""

    manifest_bytes: int
    manifests: ManifestLimits
    tags_per_put: int
    page: int
    tag_page: int
    ranges: int
    header_bytes: int
    body_idle_seconds: float


@dataclass(frozen=True, slots=True)
class Registry:
    """The services behind the protocol."""

    access: Access
    addresses: Addresses
    credentials: Credentials
    token_service: TokenService
    pull: Pull
    mirror: Mirror
    first_pull: FirstPull
    last_access: LastAccess
    last_pulls: LastPulls
    push: Push
    uploads: Uploads
    mount: Mount
    delete: Delete
    quotas: Quotas
    cache: NodeCache
    hosts: Hosts
    delivery: Delivery

    limits: ProtocolLimits
    pseudonym: str  # of this node, where it passes questions on to upstreams


@dataclass(slots=True)
class Call:
    """One request that was let in.

    `where` is the repository, or the place where a push may make one; None on routes without a
    name. `opened_before` bounds the uploads that may be used, see `Access.opened_before`.
    """

    request: Request
    actor: Actor
    values: Mapping[str, str]
    label: str | None
    address: Address | None = None
    where: Repository | Place | None = None
    opened_before: int = 0

    @property
    def target(self) -> Address:
        """The address, on routes that have one."""
        if self.address is None:
            message = "this route names no repository"
            raise AssertionError(message)
        return self.address

    @property
    def name(self) -> RepositoryName:
        """The repository's name as the client spells it."""
        return self.target.name

    @property
    def repository(self) -> Repository:
        """The repository. Raises NameUnknown when nothing was pushed there yet."""
        if isinstance(self.where, Repository):
            return self.where
        raise NameUnknown(NO_REPOSITORY, name=str(self.name))

    def may(self, registry: Registry, action: Action) -> bool:
        """Whether the caller has this right here as well."""
        if self.where is None:
            return False
        source = self.where.source
        if action is Action.PUSH and source is not None and not source.accepts_push:
            return False
        granted = self.actor.granted
        return action in registry.access.allowed(self.actor.credential, self.where) and (
            granted is None or scope_word(action) in granted.get(self.name.text, ())
        )


_NAMESPACE_LENGTH = 261  # of a host's name and a port


def namespace_of(request: Request) -> str:
    """The registry in whose name a mirror's client asks (containerd's `?ns=`), or nothing."""
    if b"ns=" not in request.scope["query_string"]:
        return ""
    try:
        return (request.field("ns") or "").lower()[:_NAMESPACE_LENGTH]
    except RequestInvalid:
        return ""  # whoever needs the query refuses it


Handler = Callable[[Registry, Call], Awaitable[Answer]]
