"""Settings of what this server asks of other registries."""

from urllib.parse import urlsplit

from pydantic import Field
from pydantic import field_validator as check

from entrepot.config.kinds import FilePath, Networks, Section, Words


class OutboundSettings(Section):
    """Calls to upstream registries."""

    allow: Networks = Field(
        default=(),
        description=(
            "networks that upstreams may be in although they are private, such as `10.1.2.0/24`"
        ),
    )
    proxy: str = Field(
        default="", description="`http://HOST:PORT` of a proxy that all of these calls go through"
    )
    ca_file: FilePath | None = Field(
        default=None, description="certificates (PEM) that are trusted besides the system's"
    )
    concurrency: int = Field(
        default=16, ge=1, le=1_000, description="calls at once to one upstream, for each worker"
    )
    ambient: Words = Field(
        default=(),
        description=(
            "organisations (slugs, or `*` for all) whose upstreams may use the AWS identity of"
            " this server"
        ),
    )

    @check("proxy")
    @classmethod
    def _is_a_proxy(cls, proxy: str) -> str:
        if proxy and (urlsplit(proxy).scheme != "http" or not urlsplit(proxy).hostname):
            raise ValueError("must be http:// and a host, such as http://proxy.example:3128")
        return proxy
