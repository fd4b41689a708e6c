"""Every setting: its type, its default, what it is for, and what must not be combined.

`docs/reference/settings.md` has a line for each.
"""

import os
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic import field_validator as check
from pydantic import model_validator as check_all

from entrepot.config.blobs import BlobsSettings
from entrepot.config.caching import EvictionSettings, MirrorSettings, SyncSettings
from entrepot.config.delivery import DeliverySettings, refuse_unsafe
from entrepot.config.fetching import FetchSettings, NodeSettings
from entrepot.config.kinds import (
    KIB,
    MIB,
    FilePath,
    Network,
    Networks,
    Section,
    Size,
    read_path,
)
from entrepot.config.lifecycle import CollectionSettings, RetentionSettings, ScrubSettings
from entrepot.config.outbound import OutboundSettings

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_MOST_WORKERS = 4  # unless told otherwise: each takes about 80 MB
_WEAKEST_KEY = 32  # characters; what we make ourselves is longer


class DatabaseSettings(Section):
    """Where the metadata is."""

    # Not shown in repr: it may hold a password.
    url: str = Field(
        default="",
        repr=False,
        description="`sqlite:///FILE` or `postgresql://…`; default: `entrepot.db` in `data`",
    )
    pool_size: int = Field(default=10, ge=1, description="connections to PostgreSQL per worker")

    @check("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url.startswith("sqlite:///") and url != "sqlite:///":
            return url
        if url.startswith("postgresql://"):
            return url
        raise ValueError("must start with sqlite:/// (and name a file) or postgresql://")

    @property
    def sqlite_file(self) -> Path | None:
        """The database file, unless it is PostgreSQL."""
        path = self.url.removeprefix("sqlite:///")
        return None if path == self.url else Path(path).absolute()


class TlsSettings(Section):
    """Serving HTTPS without a proxy in front; changed files are noticed and taken."""

    cert_file: FilePath | None = Field(default=None, description="certificate chain (PEM)")
    key_file: FilePath | None = Field(
        default=None, description="private key (PEM), not world-readable"
    )

    @check_all(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("tls.cert_file and tls.key_file go together")
        return self


class OpsSettings(Section):
    """What only operators should see."""

    allow: Networks = Field(
        default=(), description="networks that may read `/metrics` and `/readyz`, besides loopback"
    )


class AuditSettings(Section):
    """The audit log."""

    keep_days: int = Field(default=365, ge=1, le=36_500, description="how long events are kept")


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="`debug`, `info`, `warning` or `error`"
    )
    format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`console`, `json`, or `auto`: console on a terminal, else JSON"
    )
    requests: bool = Field(default=False, description="one line per request as well")


class LimitsSettings(Section):
    """The number that every input has."""

    manifest_bytes: Size = Field(default=4 * MIB, description="a manifest")
    config_bytes: Size = Field(default=8 * MIB, description="a config blob that we read")
    layers: int = Field(default=1000, ge=1, description="layers of one manifest")
    index_children: int = Field(default=1000, ge=1, description="manifests of one index")
    index_depth: int = Field(default=4, ge=1, description="indexes within indexes")
    annotation_bytes: Size = Field(
        default=256 * KIB, description="one annotation of a manifest, key and value"
    )
    tags_per_put: int = Field(default=50, ge=1, description="`tag` parameters of one manifest PUT")
    page: int = Field(default=1000, ge=1, description="the largest `n` of a paged list")
    tag_page: int = Field(
        default=10_000, ge=1, description="tags in an answer when `n` is not given"
    )
    ranges: int = Field(default=256, ge=1, description="ranges in one `Range` header")
    header_bytes: Size = Field(default=32 * KIB, description="request line and headers, together")
    open_uploads_per_token: int = Field(
        default=1000, ge=1, description="uploads that one credential may have open"
    )
    body_idle_seconds: int = Field(
        default=60,
        ge=1,
        description="how long a request body may send nothing before it is cut off",
    )


class UploadsSettings(Section):
    """Pushes in progress."""

    expire_seconds: int = Field(
        default=86_400,
        ge=60,
        description="an upload that nobody touched for this long is removed",
    )
    protect_seconds: int = Field(
        default=86_400, ge=60, description="how long pushed content may wait for what refers to it"
    )


class TokensSettings(Section):
    """What the token service gives out."""

    bearer_seconds: int = Field(
        default=3600, ge=60, le=3600, description="life of a bearer token, at most an hour"
    )


class Settings(Section):
    """The whole tree."""

    host: str = Field(default="127.0.0.1", min_length=1, description="the address to listen on")
    port: int = Field(
        default=5000, ge=0, le=65535, description="the port to listen on; 0 takes a free one"
    )
    data: FilePath = Field(
        default=Path("data"), validate_default=True, description="the data folder; made if missing"
    )
    workers: int = Field(
        default_factory=lambda: min(_MOST_WORKERS, os.cpu_count() or 1),
        ge=1,
        le=256,
        description="server processes; by default one per core, at most 4",
    )
    public_url: str = Field(
        default="", description="how clients reach us, such as `https://registry.example.com`"
    )
    anonymous: Literal["", "pull", "push"] = Field(
        default="",
        description="what callers without a credential may do: nothing, `pull` or `push`",
    )
    anonymous_force: bool = Field(
        default=False, description="allow `anonymous` although others than this machine can call"
    )
    trusted_proxies: Networks = Field(
        default=(), description="networks whose `X-Forwarded-*` headers are believed"
    )
    shutdown_seconds: int = Field(
        30, ge=1, description="how long a stopping server lets transfers finish"
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description=(
            "the key that seals and signs, the same on every node;"
            " old keys may follow, with commas between"
        ),
    )
    secret_key_file: FilePath | None = Field(
        default=None,
        description=(
            "a file with that key, read again when it changed;"
            " default: `secret.key` in `data`, made at first start"
        ),
    )
    database: DatabaseSettings
    blobs: BlobsSettings
    tls: TlsSettings = TlsSettings()
    ops: OpsSettings = OpsSettings()
    log: LogSettings = LogSettings()
    audit: AuditSettings = AuditSettings()
    limits: LimitsSettings = LimitsSettings()
    uploads: UploadsSettings = UploadsSettings()
    tokens: TokensSettings = TokensSettings()
    delivery: DeliverySettings = DeliverySettings()
    outbound: OutboundSettings = OutboundSettings()
    node: NodeSettings = NodeSettings()
    fetch: FetchSettings = FetchSettings()
    mirror: MirrorSettings = MirrorSettings()
    sync: SyncSettings = SyncSettings()
    eviction: EvictionSettings = EvictionSettings()
    retention: RetentionSettings = RetentionSettings()
    collection: CollectionSettings = CollectionSettings()
    scrub: ScrubSettings = ScrubSettings()

    @check_all(mode="before")
    @classmethod
    def _live_in_the_data_folder(cls, values: dict[str, Any]) -> dict[str, Any]:
        data = read_path(values.get("data", "data"))
        places = {"database": f"sqlite:///{data}/entrepot.db", "blobs": f"file://{data}/blobs"}
        return values | {
            section: {"url": url} | values.get(section, {}) for section, url in places.items()
        }

    @check("public_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("must be http:// or https:// and a host name")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must have no path: registries live at the root of their host")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @check("secret_key")
    @classmethod
    def _is_strong(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key else None
        # Short, or long by repetition; its form is judged where it is read.
        if text and (len(text) < _WEAKEST_KEY or len(set(text)) < _WEAKEST_KEY // 4):
            raise ValueError("is too weak; make one with: head -c 32 /dev/urandom | base64")
        return key

    @check_all(mode="after")
    def _is_safe(self) -> Self:
        if self.secret_key is not None and self.secret_key_file is not None:
            raise ValueError("set secret_key or secret_key_file, not both")
        if self.anonymous and not self.anonymous_force and (reach := self._who_can_reach()):
            raise ValueError(
                f"anonymous={self.anonymous} is for this machine only, but {reach} is not loopback;"
                " set anonymous_force if you mean it"
            )
        refuse_unsafe(
            self.delivery,
            self.blobs,
            public_url=self.public_url,
            delay_seconds=self.collection.delay_seconds,
        )
        return self

    def _who_can_reach(self) -> str:
        """The setting that lets others than this machine in, or nothing."""
        if not is_loopback(self.host):
            return f"host {self.host}"
        if self.public_url and not is_loopback(urlsplit(self.public_url).hostname or ""):
            return f"public_url {self.public_url}"
        for proxy in self.trusted_proxies:
            if not any(_covers(loopback, proxy) for loopback in _LOOPBACK):
                return f"trusted proxy {proxy}"
        return ""

    def warnings(self) -> list[str]:
        """What is allowed and still unwise, a sentence each."""
        host = urlsplit(self.public_url).hostname or ""
        if self.public_url.startswith("http://") and not is_loopback(host):
            return [f"public_url {self.public_url} is not https: tokens cross the network unsealed"]
        return []


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _covers(outer: Network, inner: Network) -> bool:
    # One type narrows to one: networks of two families cannot be compared.
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)
