"""Where the objects are, and obstore's ways there."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from entrepot.blobs.objects_faults import REFUSALS, read_refusal
from entrepot.model.errors import StartRefused

if TYPE_CHECKING:  # they exist for checkers alone
    from obstore.store import (
        AzureConfig,
        ClientConfig,
        GCSConfig,
        RetryConfig,
        S3Config,
        S3Credential,
    )

Way = S3Store | GCSStore | AzureStore

_CONNECT = timedelta(seconds=5)
_IDLE = timedelta(seconds=15)  # stores close connections that nobody uses; be the first
# A part of 5 MiB goes through a line of 100 kB/s; to put many parts together takes seconds.
_WRITE = timedelta(seconds=60)
# Of an answer's bytes, each time: how long all of them take is up to whoever reads them.
_READ = timedelta(seconds=20)
_WHOLE_ANSWER = timedelta(days=1)
_RETRY: "RetryConfig" = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    },
}


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, or container, and the beginning of all our names in it.

    Without keys they are looked for where the store's own tools look: in the environment, then at
    the machine's identity. For Azure the keys are the account and its key.
    """

    scheme: Literal["s3", "gs", "az"]
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        where = f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{where} at {self.endpoint}" if self.endpoint else where

    @property
    def is_virtual_hosted(self) -> bool:
        """Whether the bucket is in the host's name, and not in the path."""
        if self.endpoint is None:
            return "." not in self.bucket  # a dot is a label more than the certificate covers
        return f"{urlsplit(self.endpoint).hostname}.".startswith(f"{self.bucket}.")

    def at(self, endpoint: str) -> Self:
        """The same, as it is reached elsewhere."""
        return replace(self, endpoint=endpoint)


def way_to_write(place: Place) -> Way:
    """For requests that bring bytes: each ends within a time. Raises StartRefused."""
    return _way(place, {"timeout": _WRITE})


def way_to_read(place: Place) -> Way:
    """For all others: each wait for the store ends within a time. Raises StartRefused."""
    return _way(place, {"timeout": _WHOLE_ANSWER, "read_timeout": _READ})


def _way(place: Place, limits: "ClientConfig") -> Way:
    try:
        return _make(place, limits)
    except REFUSALS as error:
        raise StartRefused(
            f"the object store {place} cannot be asked ({read_refusal(error).words}); "
            "set account, keys and endpoint as docs/object-stores.md has them"
        ) from None


def _make(place: Place, limits: "ClientConfig") -> Way:
    options: ClientConfig = {
        "connect_timeout": _CONNECT,
        "pool_idle_timeout": _IDLE,
        "allow_http": (place.endpoint or "").startswith("http://"),
        "default_content_type": "application/octet-stream",
        "user_agent": "entrepot",
        **limits,
    }
    prefix = place.prefix or None
    if place.scheme == "gs":
        return GCSStore(
            prefix=prefix, config=_google(place), client_options=options, retry_config=_RETRY
        )
    if place.scheme == "az":
        return AzureStore(
            prefix=prefix, config=_azure(place), client_options=options, retry_config=_RETRY
        )
    return S3Store(
        prefix=prefix,
        config=_s3(place),
        client_options=options,
        retry_config=_RETRY,
        # Not in the settings of obstore: it would add a session's token from the environment.
        credential_provider=(lambda: _keys(place)) if place.access_key_id else None,
    )


def _s3(place: Place) -> "S3Config":
    config: S3Config = {
        "bucket": place.bucket,
        "virtual_hosted_style_request": place.is_virtual_hosted,
        "disable_bulk_delete": True,  # we delete one by one, which every store knows
    }
    if place.endpoint:
        config["endpoint"] = place.endpoint
    if place.region:
        config["region"] = place.region
    return config


def _keys(place: Place) -> "S3Credential":
    return {
        "access_key_id": place.access_key_id or "",
        "secret_access_key": place.secret_access_key or "",
        "expires_at": None,
    }


def _google(place: Place) -> "GCSConfig":
    config: GCSConfig = {"bucket": place.bucket}
    if place.endpoint:
        config["base_url"] = place.endpoint
    return config


def _azure(place: Place) -> "AzureConfig":
    config: AzureConfig = {"container_name": place.bucket}
    if place.endpoint:
        config["endpoint"] = place.endpoint
    if place.access_key_id and place.secret_access_key:
        config["account_name"] = place.access_key_id
        config["account_key"] = place.secret_access_key
    return config
