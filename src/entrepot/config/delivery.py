"""Settings of how a blob's bytes leave."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field
from pydantic import model_validator as check_all

from entrepot.config.blobs import BlobsSettings
from entrepot.config.kinds import KIB, Endpoint, Networks, Section, Size
from entrepot.model.names import is_at_or_below

_LONGEST = 7 * 86_400  # what signatures of S3 are good for
_MARGIN = 60  # seconds by which the clocks of nodes and store may differ


class DeliverySettings(Section):
    """How a blob's bytes leave."""

    mode: Literal["stream", "redirect"] = Field(
        default="stream",
        description=(
            "`stream`: through this server; `redirect`: clients get a signed address of the object"
            " store"
        ),
    )
    endpoint: Endpoint = Field(
        default="",
        description="where clients reach the object store, if not where this server does",
    )
    url_seconds: int = Field(
        default=3_000, ge=60, le=_LONGEST, description="how long a signed address is good"
    )
    direct_bytes: Size = Field(
        default=64 * KIB, description="blobs up to this size are not redirected"
    )
    stream_to: Networks = Field(
        default=(), description="networks of clients that are never redirected"
    )

    @check_all(mode="after")
    def _is_used(self) -> Self:
        if self.endpoint and self.mode != "redirect":
            raise ValueError("delivery.endpoint is for delivery.mode=redirect")
        return self


def refuse_unsafe(
    delivery: DeliverySettings,
    blobs: BlobsSettings,
    *,
    public_url: str,
    delay_seconds: int,
) -> None:
    """Raise ValueError for what would lose tokens or bytes."""
    if delivery.mode != "redirect":
        return
    if not blobs.is_objects:
        raise ValueError("delivery.mode=redirect needs an object store (blobs.url)")
    host = urlsplit(delivery.endpoint or blobs.endpoint).hostname or ""
    name = urlsplit(public_url).hostname or ""
    if name and is_at_or_below(host, name):
        raise ValueError(
            f"clients would send their tokens to {host}, because it is {name} of public_url or"
            " below it: give the object store a name of its own (delivery.endpoint)"
        )
    if delay_seconds < delivery.url_seconds + _MARGIN:
        raise ValueError(
            f"collection.delay_seconds={delay_seconds} is less than a minute more than"
            f" delivery.url_seconds={delivery.url_seconds}: objects could go while a signed"
            " address is good"
        )
