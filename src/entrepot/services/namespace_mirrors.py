"""Namespace mirrors of organisations: making, listing, changing and ending them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from entrepot.db import installation, namespaces, upstreams
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor
from entrepot.model.clock import Clock
from entrepot.model.errors import (
    Denied,
    FieldInvalid,
    NameInvalid,
    NameUnknown,
    NotFound,
    Stale,
    Taken,
)
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import RepositoryName
from entrepot.model.tenancy import Change, Organisation
from entrepot.model.upstreams import DEFAULT_FRESHNESS, NamespaceMirror
from entrepot.services.access import Access
from entrepot.services.addresses import DEFAULT_ORGANISATION, Address, Addresses
from entrepot.services.audit import record
from entrepot.services.organisations import NONE_PUBLIC, STALE, require_version
from entrepot.services.pull_through import FRESHNESS, no_upstream
from entrepot.services.upstream_forms import PATTERN_MEANS, is_pattern

MIRRORS = 100  # of one organisation
PATTERNS = 100  # of a mirror, of each kind
PREFIX_LENGTH = 128  # so that the names below fit into addresses

_CHANGEABLE = frozenset({"allow", "deny", "freshness", "is_public"})
_NO_MIRROR = "no such mirror, or none that you may see"


@dataclass(frozen=True, slots=True)
class NewMirror:
    """A mirror to make. `prefix` empty or `/`: all names of the organisation."""

    prefix: str
    upstream: str
    upstream_prefix: str = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    freshness: int = DEFAULT_FRESHNESS
    is_public: bool = False


class NamespaceMirrors:
    """What can be done to namespace mirrors. What was pulled through one stays when it ends."""

    def __init__(
        self, database: Database, clock: Clock, access: Access, addresses: Addresses
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._addresses = addresses

    async def page(
        self, actor: Actor, organisation: str, *, before: int, limit: int
    ) -> tuple[list[NamespaceMirror], bool]:
        """Up to `limit` mirrors of an organisation, the newest first, and whether more follow.

        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read() as tx:
            entered = await self._access.enter(tx, actor, Action.BROWSE, organisation)
            found = await namespaces.page(tx, entered.id, before=before, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def get(self, actor: Actor, mirror_id: int) -> NamespaceMirror:
        """One mirror. Raises Unauthenticated, NotFound."""
        async with self._database.read() as tx:
            return await self._enter(tx, actor, Action.BROWSE, mirror_id)

    async def create(self, actor: Actor, organisation: str, new: NewMirror) -> NamespaceMirror:
        """Mirror an upstream at a prefix.

        Raises FieldInvalid, Taken, Unauthenticated, NotFound, Denied.
        """
        prefix = _prefix(new.prefix, "prefix")
        upstream_prefix = _prefix(new.upstream_prefix, "upstream_prefix")
        _require_fields({"allow": new.allow, "deny": new.deny, "freshness": new.freshness})
        mirror_id = new_id()

        async def work(tx: Transaction) -> NamespaceMirror:
            entered = await self._access.enter(tx, actor, Action.MANAGE_UPSTREAMS, organisation)
            made = await namespaces.find(tx, entered.id, prefix)
            if made is not None and made.id == mirror_id:
                return made  # by this, before an unknown COMMIT
            upstream = await upstreams.find(tx, entered.id, new.upstream)
            if upstream is None or not await upstreams.lock(tx, upstream.id):
                raise FieldInvalid(no_upstream(new.upstream), field="upstream")
            if await namespaces.count(tx, entered.id) >= MIRRORS:
                raise Denied(f"an organisation has at most {MIRRORS} namespace mirrors")
            if made is not None:
                message = (
                    f"{_shown(prefix)} mirrors {made.upstream_name} already; change that:"
                    f" entrepot mirror set {_shown(prefix)}, or end it: entrepot mirror rm"
                    f" {_shown(prefix)}"
                )
                raise Taken(message, field="prefix")
            await self._require_reached(tx, entered, prefix)
            now = self._clock.now()
            mirror = NamespaceMirror(
                id=mirror_id,
                organisation_id=entered.id,
                organisation_slug=entered.slug,
                prefix=prefix,
                upstream_id=upstream.id,
                upstream_name=upstream.name,
                upstream_prefix=upstream_prefix,
                allow=new.allow,
                deny=new.deny,
                freshness=new.freshness,
                created_at=now,
                version=1,
                preset=upstream.preset,
                origin=upstream.origin,
                is_public=new.is_public,
                allows_public=entered.allows_public,
            )
            _require_allowed(mirror)
            await namespaces.add(tx, mirror)
            details = {
                "upstream": upstream.name,
                "upstream_prefix": upstream_prefix,
                "allow": new.allow,
                "deny": new.deny,
                "freshness": new.freshness,
                "is_public": new.is_public,
            }
            await self._record(tx, actor, "mirror.created", mirror, details)
            return mirror

        return await self._database.write(work)

    async def update(
        self, actor: Actor, mirror_id: int, fields: Mapping[str, object], *, version: int | None
    ) -> NamespaceMirror:
        """Change patterns and freshness; what is not named stays, also what was pulled.

        `version` is the one that the caller read; None changes whatever there is.
        Raises FieldInvalid, Stale, Unauthenticated, NotFound, Denied.
        """
        _require_fields(fields)

        async def work(tx: Transaction) -> NamespaceMirror:
            before = await self._enter(tx, actor, Action.MANAGE_UPSTREAMS, mirror_id)
            require_version(before.version, version)
            after = replace(before, **fields)  # type: ignore[arg-type]  # by _require_fields
            if fields.get("is_public"):
                _require_allowed(after)
            if not await namespaces.update(tx, after):
                raise Stale(STALE)
            await self._record(tx, actor, "mirror.changed", before, dict(fields))
            return replace(after, version=before.version + 1)

        return await self._database.write(work)

    async def delete(self, actor: Actor, mirror_id: int, *, version: int | None) -> None:
        """End a mirror. Repositories that were pulled through it stay, and go on.

        Raises Stale, Unauthenticated, NotFound, Denied.
        """

        async def work(tx: Transaction) -> None:
            found = await self._enter(tx, actor, Action.MANAGE_UPSTREAMS, mirror_id)
            require_version(found.version, version)
            if not await namespaces.delete(tx, found, now=self._clock.now()):
                raise Stale(STALE)
            await self._record(tx, actor, "mirror.deleted", found)

        await self._database.write(work)

    async def _enter(
        self, tx: Transaction, actor: Actor, action: Action, mirror_id: int
    ) -> NamespaceMirror:
        """The mirror, to somebody who may do `action` in its organisation now.

        Raises Unauthenticated, NotFound (also to whoever may not see it), Denied.
        """
        actor = await self._access.known(tx, actor)
        found = await namespaces.get(tx, mirror_id)
        if found is None or Action.BROWSE not in self._access.allowed_in(
            actor.credential, found.organisation_id
        ):
            raise NotFound(_NO_MIRROR)
        await self._access.enter(tx, actor, action, found.organisation_id)
        return found

    async def _require_reached(
        self, tx: Transaction, organisation: Organisation, prefix: str
    ) -> None:
        """The names below the prefix must lead here, also in their short form. Raises Taken."""
        await installation.lock(tx, DEFAULT_ORGANISATION)
        is_default = await installation.find(tx, DEFAULT_ORGANISATION) == str(organisation.id)
        if not prefix or not is_default:
            return
        below = RepositoryName(f"{prefix}/name")
        try:
            place = await self._addresses.place(tx, Address(None, below))
            is_reached = (place.organisation_id, place.path) == (organisation.id, below.text)
        except NameUnknown:
            is_reached = False
        if not is_reached:
            message = (
                f"addresses that begin with {below.first} lead to an organisation or project; "
                "choose another prefix"
            )
            raise Taken(message, field="prefix")

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        mirror: NamespaceMirror,
        details: dict[str, object] | None = None,
    ) -> None:
        change = Change(
            action,
            "mirror",
            to_text(mirror.id),
            _shown(mirror.prefix),
            mirror.organisation_id,
            details or {},
        )
        await record(tx, actor, change, now=self._clock.now())


def _prefix(text: str, field: str) -> str:
    """A prefix as it is stored. Raises FieldInvalid."""
    text = text.strip("/")
    if not text:
        return ""
    try:
        name = RepositoryName.parse(text)
    except NameInvalid as error:
        raise FieldInvalid(error.message, field=field) from error
    if len(name.text) > PREFIX_LENGTH:
        message = f"a prefix has at most {PREFIX_LENGTH} characters"
        raise FieldInvalid(message, field=field)
    return name.text


def _require_allowed(mirror: NamespaceMirror) -> None:
    """Raises Denied for a public one where there may be none."""
    if mirror.is_public and not mirror.allows_public:
        raise Denied(NONE_PUBLIC, field="is_public")


def _shown(prefix: str) -> str:
    return prefix or "/"


def _require_fields(fields: Mapping[str, object]) -> None:
    """Raises FieldInvalid for what cannot be set, or not to this."""
    for field, value in fields.items():
        if field not in _CHANGEABLE:
            raise FieldInvalid(f"{field} stays as it was made", field=field)
        if isinstance(value, tuple) and (
            len(value) > PATTERNS or not all(is_pattern(word) for word in value)
        ):
            message = f"at most {PATTERNS} patterns: {PATTERN_MEANS}"
            raise FieldInvalid(message, field=field)
        if field == "freshness" and not (isinstance(value, int) and 0 <= value <= FRESHNESS):
            raise FieldInvalid(f"freshness is 0 to {FRESHNESS} seconds", field=field)
