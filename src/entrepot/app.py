"""The composition root: settings become parts, parts become an ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from entrepot.api.entrance import ApiEntrance
from entrepot.api.management import Management
from entrepot.blobs.space import Space
from entrepot.caching import Caching
from entrepot.config import Settings, load
from entrepot.db.connect import connect
from entrepot.db.database import Database
from entrepot.db.migrate import migrate
from entrepot.db.reach import require_reachable
from entrepot.identity.bearer import BearerKey
from entrepot.identity.key_file import make_key_file, refuse_if_open
from entrepot.identity.passwords import Passwords
from entrepot.identity.private_file import write_private
from entrepot.identity.seal import Seal
from entrepot.identity.tokens import new_token
from entrepot.jobs import schedule
from entrepot.jobs.schedule import Job
from entrepot.lifecycle import Lifecycle, servers_policy
from entrepot.model.access import Action, Kind
from entrepot.model.clock import SECOND, Clock, SystemClock
from entrepot.model.errors import EntrepotError
from entrepot.oci.call import Registry
from entrepot.oci.surface import Surface
from entrepot.ops.first_steps import first_lines
from entrepot.ops.readiness import AskStore, Readiness
from entrepot.ops.surface import OpsSurface
from entrepot.parts import (
    key_ring,
    make_database,
    make_delivery,
    make_hosts,
    make_store,
    own_key_file,
    protocol_limits,
)
from entrepot.services.access import Access
from entrepot.services.addresses import Addresses
from entrepot.services.audit_log import AuditLog
from entrepot.services.contents import Contents
from entrepot.services.credentials import Credentials
from entrepot.services.delete import Delete
from entrepot.services.deletions import Deletions
from entrepot.services.fetch_relay import RELAY_PATH
from entrepot.services.idempotency import Idempotency
from entrepot.services.invitations import Invitations
from entrepot.services.last_use import LastUse
from entrepot.services.login import Login
from entrepot.services.members import Members
from entrepot.services.mount import Mount
from entrepot.services.namespace_mirrors import NamespaceMirrors
from entrepot.services.objects import Objects
from entrepot.services.organisations import Organisations
from entrepot.services.projects import Projects
from entrepot.services.pull import Pull
from entrepot.services.push import Push
from entrepot.services.repositories import Repositories
from entrepot.services.restore import Restore
from entrepot.services.rotation import recorded_key, require_key
from entrepot.services.server_settings import Server
from entrepot.services.session import Session
from entrepot.services.store_id import require_store
from entrepot.services.tenancy import Tenancy
from entrepot.services.token_service import TokenService
from entrepot.services.tokens import Tokens
from entrepot.services.uploads import UploadLimits, Uploads
from entrepot.services.upstream_repositories import UpstreamRepositories
from entrepot.services.users import Users
from entrepot.telemetry.metrics import Metrics
from entrepot.web.authenticate import Authenticator
from entrepot.web.hosts import Hosts

if TYPE_CHECKING:
    from entrepot.web.requests import Receive, Scope, Send

_SHOWN_CONFIG_BYTES = 1 << 20  # of an image, in an answer of the management API
_ANONYMOUS: dict[str, frozenset[Action]] = {
    "": frozenset(),
    "pull": frozenset({Action.PULL, Action.CATALOG}),
    "push": frozenset(
        {
            Action.PULL,
            Action.CATALOG,
            Action.PUSH,
            Action.CREATE_REPOSITORY,
            Action.DELETE_TAG,
            Action.DELETE,
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a start has to tell."""

    start_lines: list[str] = field(default_factory=list)


async def prepare(settings: Settings) -> Prepared:
    """Bring data folder and schema up to date, and make the first organisation, user and token.

    Raises StartRefused, StorageFull, StorageFailed, Unavailable.
    """
    settings.data.mkdir(parents=True, exist_ok=True)
    ring = key_ring(settings, SystemClock())
    store = make_store(settings)
    store.prepare()
    await require_reachable(settings.database.url)
    await migrate(settings.database.url)
    database = connect(settings.database.url, pool_size=1)
    await database.open()
    try:
        if path := own_key_file(settings):
            if await recorded_key(database) is None:
                make_key_file(path)
            refuse_if_open(path)
        await require_key(database, ring)
        await require_store(database, store)
        return await _first_start(settings, Tenancy(database, SystemClock()))
    finally:
        await database.close()
        store.close()


async def _first_start(settings: Settings, tenancy: Tenancy) -> Prepared:
    """Make the first token.

    It is on disk before its hash is in the database: after a crash in between, the next start
    makes another.
    """
    if await tenancy.default_organisation() is not None:
        return Prepared()
    path, token = settings.data / "admin.token", new_token(Kind.USER)
    write_private(path, f"{token}\n")
    if not await tenancy.first_start(token):
        path.unlink()  # another node was first, and has the token
        return Prepared()
    scheme = "https" if settings.tls.cert_file else "http"
    return Prepared(
        first_lines(f"{scheme}://localhost:{settings.port}", path, token, servers_policy(settings))
    )


class Application:
    """The parts of one worker. `run` is its life; calling it answers one request."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.metrics = Metrics()
        self.database: Database = make_database(settings, self.metrics)
        self.store = make_store(settings, self.metrics.store_seconds.observe)
        self._settings = settings
        self._clock = clock
        self._grace = settings.uploads.protect_seconds * SECOND
        self._ring = key_ring(settings, clock)
        self._addresses = Addresses(self.database)
        self._passwords = Passwords()

        self.access = Access(clock, self._addresses, _ANONYMOUS[settings.anonymous])
        self.tenancy = Tenancy(self.database, clock)
        self.objects = Objects(self.database, self.store, clock, self.metrics.scrub.observe)
        self._pull = Pull(self.database, self.objects, clock, grace=self._grace)
        self.caching = Caching(
            settings,
            clock,
            self.database,
            self.store,
            self.objects,
            self._ring,
            self.metrics,
            self.access,
            self._addresses,
            self._pull,
        )
        self.lifecycle = Lifecycle(
            settings, clock, self.database, self.store, self.objects, self.metrics, self.access
        )
        self.uploads = self._make_uploads()
        self.audit_log = AuditLog(
            self.database, clock, self.access, keep_days=settings.audit.keep_days
        )
        self._last_use = LastUse(self.database, clock)
        self._idempotency = Idempotency(self.database, clock, Seal(self._ring))
        self._login = Login(self.database, clock, self._passwords)
        self.metrics.count_open_uploads = self.uploads.count_open

        self._oci, self._api, self._ops = self._surfaces()

    def _surfaces(self) -> tuple[Surface, ApiEntrance, OpsSurface]:
        """What answers requests: the protocol, the management API, and what operators see."""
        settings = self._settings
        key = BearerKey(self._ring)
        credentials = Credentials(self.database, key, self._last_use)
        hosts = make_hosts(settings)
        authenticator = Authenticator(credentials, hosts)
        registry = self._registry(key, credentials, hosts)
        oci = Surface(
            registry,
            authenticator,
            self.metrics.requests,
            self._clock,
            log_requests=settings.log.requests,
        )
        api = ApiEntrance(
            self._management(registry.delete),
            authenticator,
            hosts,
            self.metrics.requests,
            self._idempotency,
            version=version("entrepot"),
        )
        self._ask_store = AskStore(self.store, Space(settings.data, settings.blobs.low_water_bytes))
        readiness = Readiness(
            self._clock, {"database": self._ask_database, "store": self._ask_store}
        )
        ops = OpsSurface(
            self.metrics,
            readiness.look,
            hosts,
            allow=settings.ops.allow,
            version=version("entrepot"),
        )
        return oci, api, ops

    def _make_uploads(self) -> Uploads:
        limits = UploadLimits(
            expire=self._settings.uploads.expire_seconds * SECOND,
            grace=self._grace,
            open_per_token=self._settings.limits.open_uploads_per_token,
        )
        return Uploads(self.database, self.store, self._clock, self.access, self._addresses, limits)

    def _registry(self, key: BearerKey, credentials: Credentials, hosts: Hosts) -> Registry:
        """What the protocol offers."""
        return Registry(
            access=self.access,
            addresses=self._addresses,
            credentials=credentials,
            token_service=TokenService(
                self.database,
                self._clock,
                access=self.access,
                addresses=self._addresses,
                key=key,
                lifetime=self._settings.tokens.bearer_seconds,
            ),
            pseudonym=self.caching.pseudonym,
            pull=self._pull,
            mirror=self.caching.mirror,
            first_pull=self.caching.first_pull,
            last_access=self.caching.last_access,
            last_pulls=self.lifecycle.last_pulls,
            push=Push(
                self.database,
                self.store,
                self._clock,
                self.access,
                self._addresses,
                grace=self._grace,
                index_depth=self._settings.limits.index_depth,
            ),
            uploads=self.uploads,
            mount=Mount(
                self.database, self._clock, self.access, self._addresses, grace=self._grace
            ),
            delete=Delete(
                self.database,
                self._clock,
                self.access,
                restore=self._settings.retention.restore_seconds * SECOND,
            ),
            quotas=self.lifecycle.quotas,
            cache=self.caching.cache,
            hosts=hosts,
            delivery=make_delivery(self._settings, hosts, self.metrics.delivery.observe),
            limits=protocol_limits(self._settings),
        )

    def _management(self, delete: Delete) -> Management:
        """What the management API offers."""
        common = (self.database, self._clock, self.access)
        window = self._settings.retention.restore_seconds * SECOND
        repositories = Repositories(*common, self._addresses, window=window)
        projects = Projects(*common, repositories)
        config_bytes = min(self._settings.limits.config_bytes, _SHOWN_CONFIG_BYTES)
        return Management(
            organisations=Organisations(*common),
            projects=projects,
            repositories=repositories,
            syncs=self.caching.syncs,
            contents=Contents(self.database, self.objects, self.access, config_bytes=config_bytes),
            delete=delete,
            restore=Restore(*common, window=window),
            deletions=Deletions(*common, repositories, projects),
            tokens=Tokens(*common),
            server=Server(*common),
            audit_log=self.audit_log,
            session=Session(*common, self._login),
            users=Users(*common, self._passwords),
            members=Members(*common),
            invitations=Invitations(*common, self._passwords),
            upstreams=self.caching.upstreams,
            upstream_repositories=UpstreamRepositories(
                self.database,
                self.access,
                repositories,
                self.caching.upstreams,
                self.caching.remotes,
            ),
            mirrors=NamespaceMirrors(*common, self._addresses),
            usage=self.lifecycle.usage,
            collection=self.lifecycle.collection_report,
            retention=self.lifecycle.retention,
            retention_run=self.lifecycle.retention_run,
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Open what must be open, and work in the background, until the worker stops."""
        await self.database.open()
        jobs: list[asyncio.Task[None]] = []
        try:
            await require_key(self.database, self._ring)
            self.caching.prepare()
            self.access.set_default_organisation(await self.tenancy.default_organisation())
            jobs.append(asyncio.create_task(self.metrics.run()))
            jobs += (asyncio.create_task(schedule.run(job)) for job in self._jobs())
            yield
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await self.caching.close()
            await self.lifecycle.close()
            await self.database.close()
            self._ask_store.close()
            self.store.close()

    def _jobs(self) -> list[Job]:
        catching_up = Job("uploads.catch_up", 5, self.uploads.catch_up)
        return [
            *([catching_up] if self.store.has_segments else []),
            Job("uploads.sweep", 60, self.uploads.sweep),
            Job("uploads.sweep_strays", 3_600, self.uploads.sweep_strays),
            Job("database.maintain", 300, self.database.maintain),
            Job("audit.sweep", 3_600, self.audit_log.sweep),
            Job("login_attempts.sweep", 60, self._login.sweep),
            Job("tokens.note_uses", 30, self._last_use.flush),
            Job("idempotency.sweep", 3_600, self._idempotency.sweep),
            *self.caching.jobs(),
            *self.lifecycle.jobs(),
        ]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Hand a request to its surface (ASGI)."""
        kind = scope["type"]
        if kind == "http":
            path = scope["path"]
            if path.startswith("/v2/") or path == "/v2":
                await self._oci(scope, receive, send)
            elif path.startswith("/api/"):
                await self._api(scope, receive, send)
            elif path.startswith(RELAY_PATH):
                await self.caching.relay(scope, receive, send)
            else:
                await self._ops(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: "Receive", send: "Send") -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.run())
            except EntrepotError as error:
                # Granian goes on without whatever raises here; told so, it starts another worker.
                await send({"type": "lifespan.startup.failed", "message": error.message})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _ask_database(self) -> str:
        """Raises Unavailable, StorageFailed. In a thread where a disk that hangs would hang us."""
        await recorded_key(self.database, scan=True)
        return ""


def serve_worker() -> Application:
    """The application of a worker process; settings come from the environment."""
    return Application(load(), SystemClock())
