"""The kinds of values that settings have, and what all sections share."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from entrepot.model.sizes import read_size

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

Network = IPv4Network | IPv6Network


def _read_networks(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("is not a list of networks such as 10.0.0.0/8,::1")  # noqa: TRY004  # pydantic's way
    return tuple(ip_network(part.strip()) for part in parts if part.strip())


def _read_words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def read_path(value: object) -> object:
    """A path from text, absolute; anything else as it is."""
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


def _require_endpoint(url: str) -> str:
    parts = urlsplit(url)
    is_address = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    if url and (not is_address or parts.query or parts.fragment):
        raise ValueError("must be http:// or https:// and a host name")
    return url.rstrip("/")


Size = Annotated[int, BeforeValidator(read_size), Field(ge=0)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_read_networks)]
Words = Annotated[tuple[str, ...], BeforeValidator(_read_words)]
Endpoint = Annotated[str, AfterValidator(_require_endpoint)]  # or nothing
FilePath = Annotated[Path, BeforeValidator(read_path)]


class Section(BaseModel):
    """A part of the tree: it does not change, and takes no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
