"""Settings of how blobs are fetched from upstreams, alone or with other nodes."""

from urllib.parse import urlsplit

from pydantic import Field
from pydantic import field_validator as check

from entrepot.config.kinds import Section, Size

_MIB, _GIB = 1 << 20, 1 << 30


class NodeSettings(Section):
    """This node among several."""

    url: str = Field(
        default="",
        description=(
            "how other nodes reach this one, such as `http://10.0.0.5:5000`;"
            " needed where nodes do not share their data folder"
        ),
    )

    @check("url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("must be http:// or https:// and a host, such as http://10.0.0.5:5000")
        if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("must have nothing behind its host and port")
        return url.rstrip("/")


class FetchSettings(Section):
    """Blobs on their way from an upstream."""

    finish_bytes: Size = Field(
        default=256 * _MIB,
        description="a fetch that nobody waits for is stopped when it has more than this to go",
    )
    spool_bytes: Size = Field(
        default=64 * _GIB, description="blobs that are being fetched, together, on one node"
    )
    take_over_seconds: float = Field(
        default=10,
        ge=5,
        le=600,
        description="how long a fetch may show no sign of life until another process goes on",
    )
