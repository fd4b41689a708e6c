"""Whether an address is a registry that takes our credential, asked when an upstream is saved."""

from entrepot.model.upstreams import Auth, Handshake
from entrepot.upstream.outbound import Outbound


async def probe(
    outbound: Outbound, origin: str, auth: Auth, preset: str, name: str, path: str | None
) -> Handshake:
    """What the registry said, to be pinned; with `path`, that it can be read as well.

    Raises FieldInvalid whose `field` is url, credential or path, UpstreamDown or UpstreamSlow where
    nothing can be known now.
    """
    raise NotImplementedError
