"""Upstream registries of organisations: adding, checking, changing and removing them.

A credential is tried before it is kept, outside of any transaction; whoever asked is judged before
that and again in the write.
"""

from dataclasses import dataclass, replace

from entrepot.db import upstream_states, upstreams
from entrepot.db.database import Database, Transaction
from entrepot.identity.seal import Seal
from entrepot.model.access import Action, Actor
from entrepot.model.clock import Clock
from entrepot.model.errors import (
    Denied,
    FieldInvalid,
    NotFound,
    Stale,
    Taken,
    Unsupported,
    UpstreamError,
)
from entrepot.model.ids import new_id, to_text
from entrepot.model.tenancy import Change, Organisation
from entrepot.model.upstreams import (
    PRESETS,
    Auth,
    AuthKind,
    NoAuth,
    Upstream,
    UpstreamState,
    external_id_of,
)
from entrepot.services.access import Access
from entrepot.services.audit import record
from entrepot.services.organisations import STALE, require_version
from entrepot.services.remotes import Remotes
from entrepot.services.upstream_facts import UpstreamFacts, facts_of, shown, tried_with
from entrepot.services.upstream_forms import (
    NewUpstream,
    UpstreamChanges,
    auth_of,
    origin_of,
    preset_of,
    require_name,
    require_patterns,
)
from entrepot.services.upstream_secrets import open_auth, seal_auth
from entrepot.services.upstream_trials import Trial, Trials, Tried

UPSTREAMS = 1_000  # of one organisation
_NAMED = 10  # of what uses an upstream


@dataclass(frozen=True, slots=True)
class _Plan:
    """A change that was tried: where it leads, and with which new credential, if any."""

    before: Upstream
    origin: str
    auth: Auth | None = None
    tried: Tried | None = None
    sealed: str | None = None


class Upstreams:
    """What can be done to upstreams."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        seal: Seal,
        trials: Trials,
        remotes: Remotes,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._seal = seal
        self._trials = trials
        self._remotes = remotes

    async def page(
        self, actor: Actor, organisation: str, *, after: str, limit: int
    ) -> tuple[list[UpstreamFacts], bool]:
        """Up to `limit` upstreams that the caller may use, by name, and whether more follow.

        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read() as tx:
            actor = await self._access.known(tx, actor)
            entered = await self._access.enter(tx, actor, Action.BROWSE, organisation)
            is_managed, may_use = self._rights(actor, entered.id)
            found: list[Upstream] = []
            if may_use:
                found = await upstreams.page(
                    tx, entered.id, for_members=not is_managed, after=after, limit=limit + 1
                )
            states = await upstream_states.find_all(tx, [each.id for each in found])
        now = self._clock.now()
        facts = [
            facts_of(each, states.get(each.id, UpstreamState()), now, is_managed=is_managed)
            for each in found
        ]
        return facts[:limit], len(facts) > limit

    async def get(self, actor: Actor, upstream_id: int) -> UpstreamFacts:
        """One upstream that the caller may use. Raises Unauthenticated, NotFound."""
        async with self._database.read() as tx:
            actor = await self._access.known(tx, actor)
            found = await upstreams.get(tx, upstream_id)
            if found is None:
                raise NotFound(NO_UPSTREAM)
            is_managed, may_use = self._rights(actor, found.organisation_id)
            if not is_managed and not (may_use and found.member_patterns):
                raise NotFound(NO_UPSTREAM)
            state = await upstream_states.get(tx, upstream_id)
        return facts_of(found, state, self._clock.now(), is_managed=is_managed)

    async def create(self, actor: Actor, organisation: str, new: NewUpstream) -> UpstreamFacts:
        """Add an upstream whose address and credential were tried.

        Raises NameInvalid, FieldInvalid, Taken, Unauthenticated, NotFound, Denied; UpstreamDown
        and UpstreamBusy where it cannot be tried now, unless it may be saved unchecked.
        """
        require_name(new.name)
        require_patterns(new.member_patterns)
        preset = preset_of(new)
        origin = origin_of(preset, new)
        async with self._database.read() as tx:
            entered = await self._enter(tx, actor, organisation, new.name)
        auth = auth_of(
            preset,
            new.auth,
            is_anonymous=new.is_anonymous,
            external_id=external_id_of(entered.public_id),
        )
        trial = Trial(entered.slug, new.name, preset.name, origin, auth)
        tried = await self._trials.before_saving(trial, save_unchecked=new.save_unchecked)
        upstream_id, now = new_id(), self._clock.now()
        sealed = seal_auth(self._seal, entered.id, upstream_id, auth)
        made = Upstream(
            id=upstream_id,
            organisation_id=entered.id,
            organisation_slug=entered.slug,
            name=new.name,
            preset=preset.name,
            origin=origin,
            member_patterns=new.member_patterns,
            created_at=now,
        )
        made = tried_with(made, auth, tried, now)

        async def work(tx: Transaction) -> Upstream:
            if (ours := await upstreams.get(tx, upstream_id)) is not None:
                return ours  # made by this, before an unknown COMMIT
            await self._enter(tx, actor, organisation, new.name)
            await upstreams.add(tx, made, sealed)
            await upstream_states.ensure(tx, upstream_id)
            await self._record(tx, actor, "upstream.created", made, shown(made))
            return made

        return UpstreamFacts(await self._database.write(work), UpstreamState(), is_managed=True)

    async def update(
        self, actor: Actor, upstream_id: int, changes: UpstreamChanges, *, version: int | None
    ) -> UpstreamFacts:
        """Rename, open to members, lead elsewhere, or give another credential.

        An address or credential is tried first, and nothing changes if that fails. Another address
        needs the credential again: nobody who cannot read it may have it sent to a place of theirs.
        Raises as `create` does, Stale, Unsupported for another address of what is in use.
        """
        plan = await self._plan(actor, upstream_id, changes)

        async def work(tx: Transaction) -> tuple[Upstream, UpstreamState]:
            found = await self._manage(tx, actor, upstream_id)
            if await _is_stored(tx, upstream_id, plan.sealed):  # by this, before an unknown COMMIT
                return found, await upstream_states.get(tx, upstream_id)
            require_version(found.version, version)
            if _dialled(found) != _dialled(plan.before):
                raise Stale(STALE)  # what was tried is not what would be stored
            if not await upstreams.lock(tx, upstream_id):
                raise NotFound(NO_UPSTREAM)
            if plan.origin != found.origin:
                await _require_unused(tx, found, "add another upstream for the other address")
            if changes.name not in {None, found.name}:
                await _require_free(tx, found.organisation_id, changes.name or "")
            changed = self._changed(found, changes, plan)
            if not await upstreams.update(tx, changed):
                raise Stale(STALE)
            if plan.auth is not None:
                await upstreams.rotate(tx, changed, plan.sealed)
                await upstream_states.close(tx, upstream_id)
            action = "upstream.changed" if plan.auth is None else "upstream.credential-changed"
            await self._record(tx, actor, action, found, shown(changed))
            after = await upstreams.get(tx, upstream_id)
            return after or changed, await upstream_states.get(tx, upstream_id)

        after, state = await self._database.write(work)
        self._remotes.forget(upstream_id)
        return facts_of(after, state, self._clock.now(), is_managed=True)

    async def check(
        self, actor: Actor, upstream_id: int, *, accept_realm: bool = False
    ) -> UpstreamFacts:
        """Try address and credential again, and keep how that went.

        What was pinned stays, unless `accept_realm`. A failure is part of the answer.
        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read() as tx:
            before = await self._manage(tx, actor, upstream_id)
            found = await upstreams.get_with_secret(tx, upstream_id)
        if found is None:
            raise NotFound(NO_UPSTREAM)
        tried = await self._try_again(*found, accept_realm=accept_realm)
        now = self._clock.now()

        async def work(tx: Transaction) -> tuple[Upstream, UpstreamState]:
            now_there = await self._manage(tx, actor, upstream_id)
            kept = now_there.handshake if tried.error else tried.handshake
            checked = replace(now_there, handshake=kept, checked_at=now, check_error=tried.error)
            if now_there.credential_version == before.credential_version:
                await upstreams.note_check(tx, checked)
                if tried.error is None:
                    await upstream_states.close(tx, upstream_id)
                details: dict[str, object] = {"error": tried.error, **shown(checked)}
                await self._record(tx, actor, "upstream.checked", checked, details)
            after = await upstreams.get(tx, upstream_id)
            return after or checked, await upstream_states.get(tx, upstream_id)

        after, state = await self._database.write(work)
        self._remotes.forget(upstream_id)
        return facts_of(after, state, self._clock.now(), is_managed=True)

    async def delete(self, actor: Actor, upstream_id: int, *, version: int | None) -> None:
        """Remove an upstream that nothing uses, and forget its credential.

        Raises Unsupported (in use), Stale, Unauthenticated, NotFound, Denied.
        """

        async def work(tx: Transaction) -> None:
            found = await self._manage(tx, actor, upstream_id)
            require_version(found.version, version)
            if not await upstreams.delete(tx, found, now=self._clock.now()):
                raise Stale(STALE)
            await _require_unused(
                tx, found, "delete them first: entrepot repository rm, entrepot mirror rm"
            )
            await self._record(tx, actor, "upstream.deleted", found)

        await self._database.write(work)
        self._remotes.forget(upstream_id)

    async def _plan(self, actor: Actor, upstream_id: int, changes: UpstreamChanges) -> _Plan:
        """Judge a change, and try what it leads to."""
        if changes.name is not None:
            require_name(changes.name)
        if changes.member_patterns is not None:
            require_patterns(changes.member_patterns)
        async with self._database.read() as tx:
            before = await self._manage(tx, actor, upstream_id)
            entered = await self._access.enter(
                tx, actor, Action.MANAGE_UPSTREAMS, before.organisation_id
            )
        preset, origin, auth = PRESETS[before.preset], before.origin, changes.auth
        if changes.url is not None:
            origin = origin_of(preset, NewUpstream(before.name, url=changes.url))
        if auth is None and changes.is_anonymous:
            auth = NoAuth()
        if origin == before.origin and auth is None:
            return _Plan(before, origin)
        if auth is None and before.auth_kind is not AuthKind.NONE:
            message = "another address needs the credential again; the stored one is not sent there"
            raise FieldInvalid(message, field="credential")
        auth = auth_of(
            preset,
            auth,
            is_anonymous=changes.is_anonymous or changes.auth is None,
            external_id=external_id_of(entered.public_id),
        )
        trial = Trial(entered.slug, before.name, preset.name, origin, auth)
        tried = await self._trials.before_saving(trial, save_unchecked=changes.save_unchecked)
        sealed = seal_auth(self._seal, before.organisation_id, upstream_id, auth)
        return _Plan(before, origin, auth, tried, sealed)

    async def _try_again(
        self, upstream: Upstream, sealed: str | None, *, accept_realm: bool
    ) -> Tried:
        try:
            auth = open_auth(self._seal, upstream, sealed)
        except UpstreamError as error:
            return Tried(None, error.message)
        slug = upstream.organisation_slug
        trial = Trial(slug, upstream.name, upstream.preset, upstream.origin, auth)
        pinned = None if accept_realm else upstream.handshake
        return await self._trials.again(trial, pinned)

    def _changed(self, found: Upstream, changes: UpstreamChanges, plan: _Plan) -> Upstream:
        """The row as it will be."""
        changed = replace(
            found,
            name=found.name if changes.name is None else changes.name,
            origin=plan.origin,
            member_patterns=(
                found.member_patterns
                if changes.member_patterns is None
                else changes.member_patterns
            ),
        )
        if plan.auth is None or plan.tried is None:
            return changed
        return tried_with(changed, plan.auth, plan.tried, self._clock.now())

    def _rights(self, actor: Actor, organisation_id: int) -> tuple[bool, bool]:
        """Whether somebody may manage upstreams of an organisation, and use those for members."""
        actions = self._access.allowed_in(actor.credential, organisation_id)
        is_managed = Action.MANAGE_UPSTREAMS in actions
        return is_managed, is_managed or Action.CREATE_REPOSITORY in actions

    async def _enter(
        self, tx: Transaction, actor: Actor, organisation: str, name: str
    ) -> Organisation:
        """The organisation, where there may be a new upstream of this name.

        Raises Unauthenticated, NotFound, Denied, Taken.
        """
        entered = await self._access.enter(tx, actor, Action.MANAGE_UPSTREAMS, organisation)
        await _require_free(tx, entered.id, name)
        if await upstreams.count(tx, entered.id, limit=UPSTREAMS) >= UPSTREAMS:
            raise Denied(f"{entered.slug} has {UPSTREAMS:,} upstreams; delete some first")
        return entered

    async def _manage(self, tx: Transaction, actor: Actor, upstream_id: int) -> Upstream:
        """The upstream, to who may change it. Raises Unauthenticated, NotFound, Denied."""
        actor = await self._access.known(tx, actor)
        found = await upstreams.get(tx, upstream_id)
        if found is None:
            raise NotFound(NO_UPSTREAM)
        is_managed, may_use = self._rights(actor, found.organisation_id)
        if not is_managed and not (may_use and found.member_patterns):
            raise NotFound(NO_UPSTREAM)
        await self._access.enter(tx, actor, Action.MANAGE_UPSTREAMS, found.organisation_id)
        return found

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        upstream: Upstream,
        details: dict[str, object] | None = None,
    ) -> None:
        change = Change(
            action,
            "upstream",
            to_text(upstream.id),
            upstream.name,
            upstream.organisation_id,
            details or {},
        )
        await record(tx, actor, change, now=self._clock.now())


NO_UPSTREAM = "no such upstream registry, or none that you may use"


def _dialled(upstream: Upstream) -> tuple[str, int]:
    return upstream.origin, upstream.credential_version


async def _is_stored(tx: Transaction, upstream_id: int, sealed: str | None) -> bool:
    """Whether this very secret is: no two seals of one are alike."""
    stored = await upstreams.get_with_secret(tx, upstream_id) if sealed else None
    return stored is not None and stored[1] == sealed


async def _require_free(tx: Transaction, organisation_id: int, name: str) -> None:
    """Raises Taken."""
    if await upstreams.find(tx, organisation_id, name) is not None:
        message = (
            f"there is an upstream called {name}; choose another name, or change that one:"
            f" entrepot upstream rotate {name}, entrepot upstream set {name}"
        )
        raise Taken(message, field="name")


async def _require_unused(tx: Transaction, upstream: Upstream, remedy: str) -> None:
    """Raises Unsupported."""
    if found := await upstreams.users(tx, upstream, limit=_NAMED + 1):
        named = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise Unsupported(f"{upstream.name} is used by {named}; {remedy}")
