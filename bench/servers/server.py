"""What a client needs to know of a running server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, who it is, and how to be let in."""

    name: str
    port: int
    pid: int
    authorize: Callable[[Sequence[str]], str]
    """Repositories -> the Authorization header value that may push to and pull from them."""
