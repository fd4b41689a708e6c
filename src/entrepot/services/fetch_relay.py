"""Handing a fetch from node to node: the address, and the signature that proves one of ours asks.

The key is derived from the installation's secret key, which all nodes share.
"""

import hashlib
import hmac
from contextlib import AbstractAsyncContextManager

from entrepot.identity.keys import KeyRing
from entrepot.model.clock import MINUTE, SECOND, Clock
from entrepot.upstream.nodes import Nodes, Relayed

RELAY_PATH = "/internal/fetches/"
PROOF_HEADER = "x-entrepot-node"
_LIFE = MINUTE
_PURPOSE = "fetch relay"


class Relays:
    """Asking other nodes for what they fetch, and knowing them when they ask."""

    def __init__(self, ring: KeyRing, clock: Clock, nodes: Nodes) -> None:
        self._ring = ring
        self._clock = clock
        self._nodes = nodes

    def take(self, node_url: str, id: str, start: int) -> AbstractAsyncContextManager[Relayed]:  # noqa: A002
        """The node's spool of this fetch, from `start` on. Raises NotFound, UpstreamDown."""
        path = f"{RELAY_PATH}{id}?from={start}"
        expires_at = (self._clock.now() + _LIFE) // SECOND
        key = self._ring.current.derive(_PURPOSE)
        proof = f"{expires_at}.{_signature(key, path, expires_at)}"
        return self._nodes.take(node_url, path, {PROOF_HEADER: proof})

    def is_ours(self, path: str, proof: str | None) -> bool:
        """Whether a node that has our key asks for `path`, query included, about now."""
        expiry, _, signature = (proof or "").partition(".")
        if not (expiry.isascii() and expiry.isdecimal() and len(expiry) < 20):  # noqa: PLR2004  # 64 bits
            return False
        # Clocks of nodes differ: as much on either side.
        if abs(int(expiry) * SECOND - self._clock.now()) > 2 * _LIFE:
            return False
        return any(
            hmac.compare_digest(
                _signature(key.derive(_PURPOSE), path, int(expiry)).encode(),
                signature.encode("utf-8", "replace"),
            )
            for key in self._ring.keys
        )


def _signature(key: bytes, path: str, expires_at: int) -> str:
    return hmac.digest(key, f"GET {path}\n{expires_at}".encode(), hashlib.sha256).hex()
