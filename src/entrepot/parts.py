"""Parts of the application that are made of settings alone."""

from pathlib import Path

from entrepot.blobs.cache_folder import CacheFolder
from entrepot.blobs.disk import DiskStore
from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.objects_place import Place
from entrepot.blobs.store import BlobStore
from entrepot.config import Settings
from entrepot.db.connect import connect
from entrepot.db.database import Database
from entrepot.db.timed import TimedDatabase
from entrepot.identity.keys import KeyRing
from entrepot.model.clock import Clock
from entrepot.model.manifests import ManifestLimits
from entrepot.oci.call import ProtocolLimits
from entrepot.services.node_cache import NodeCache
from entrepot.telemetry.metrics import Metrics
from entrepot.telemetry.observe import Observe, ignore
from entrepot.upstream.outbound import Outbound
from entrepot.web.delivery import Delivery, RedirectRules
from entrepot.web.hosts import Hosts


def make_database(settings: Settings, metrics: Metrics) -> Database:
    """The database; each call is timed."""
    return TimedDatabase(
        connect(
            settings.database.url,
            pool_size=settings.database.pool_size,
            on_commit=metrics.commit_batch.observe,
        ),
        metrics.database_seconds.observe,
    )


def make_store(settings: Settings, observe: Observe = ignore) -> BlobStore:
    """Where the bytes are."""
    if settings.blobs.is_objects:
        return ObjectStore(
            make_place(settings),
            public_endpoint=settings.delivery.endpoint or None,
            observe=observe,
        )
    return DiskStore(
        settings.blobs.folder,
        settings.data / "uploads",
        low_water_bytes=settings.blobs.low_water_bytes,
        observe=observe,
    )


def make_cache(settings: Settings, clock: Clock, observe: Observe) -> NodeCache:
    """What this node keeps of an object store."""
    blobs = settings.blobs
    folder = CacheFolder(
        settings.data / "cache",
        clock,
        room=blobs.cache_bytes if blobs.is_objects else 0,
        low_water_bytes=blobs.low_water_bytes,
        observe=observe,
    )
    return NodeCache(folder, observe)


def make_place(settings: Settings) -> Place:
    """Where in an object store."""
    blobs = settings.blobs
    scheme, bucket, prefix = blobs.bucket
    secret = blobs.secret_access_key
    return Place(
        scheme,
        bucket,
        prefix,
        endpoint=blobs.endpoint or None,
        region=blobs.region or None,
        access_key_id=blobs.access_key_id or None,
        secret_access_key=secret.get_secret_value() if secret else None,
    )


def key_ring(settings: Settings, clock: Clock) -> KeyRing:
    """The secret keys, from wherever the settings say. Raises StartRefused."""
    if settings.secret_key is not None:
        return KeyRing.of(settings.secret_key.get_secret_value())
    return KeyRing.at(settings.secret_key_file or _key_file(settings), clock)


def own_key_file(settings: Settings) -> Path | None:
    """The key file that we make and change; none when the settings bring the key."""
    is_given = settings.secret_key is not None or settings.secret_key_file is not None
    return None if is_given else _key_file(settings)


def _key_file(settings: Settings) -> Path:
    return settings.data / "secret.key"


def make_outbound(settings: Settings, pseudonym: str) -> Outbound:
    """The way to other registries."""
    outbound = settings.outbound
    return Outbound(
        allow=outbound.allow,
        proxy=outbound.proxy,
        ca_file=outbound.ca_file,
        pseudonym=pseudonym,
    )


def make_hosts(settings: Settings) -> Hosts:
    """By which names this server is known."""
    return Hosts(
        public_url=settings.public_url or None,
        listen=f"{settings.host}:{settings.port}",
        is_tls=settings.tls.cert_file is not None,
        trusted_proxies=settings.trusted_proxies,
    )


def make_delivery(settings: Settings, hosts: Hosts, observe: Observe) -> Delivery:
    """How blobs leave."""
    delivery = settings.delivery
    rules = RedirectRules(delivery.url_seconds, delivery.direct_bytes, delivery.stream_to)
    return Delivery(hosts, rules if delivery.mode == "redirect" else None, observe)


def protocol_limits(settings: Settings) -> ProtocolLimits:
    """The limits of the protocol."""
    limits = settings.limits
    return ProtocolLimits(
        manifest_bytes=limits.manifest_bytes,
        manifests=ManifestLimits(
            layers=limits.layers,
            index_children=limits.index_children,
            annotation_bytes=limits.annotation_bytes,
            config_bytes=limits.config_bytes,
        ),
        tags_per_put=limits.tags_per_put,
        page=limits.page,
        tag_page=limits.tag_page,
        ranges=limits.ranges,
        header_bytes=limits.header_bytes,
        body_idle_seconds=limits.body_idle_seconds,
    )
