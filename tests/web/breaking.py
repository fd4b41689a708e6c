"""An ASGI application whose answers break off, for servers to show what a client sees of that."""

from entrepot.blobs.answers import Arriving
from entrepot.model.errors import UpstreamDown
from entrepot.web.answers import Answer, send_answer
from entrepot.web.requests import Request

SENT = 300_000


class Breaking:
    """300,000 bytes of a million, or of nobody knows how many."""

    def __init__(self, size, *, breaks=True):
        self.size = size
        self._breaks = breaks

    async def piece(self, start, most):
        if start < SENT:
            return b"x" * min(most, SENT - start)
        if self._breaks:
            raise UpstreamDown("the upstream broke off")
        return b""

    def close(self):
        pass


BODIES: dict[str, Arriving] = {
    "/known": Breaking(1_000_000),
    "/unknown": Breaking(None),
    "/whole": Breaking(SENT, breaks=False),
    "/whole-unknown": Breaking(None, breaks=False),
}


async def app(scope, receive, send):
    if scope["type"] == "http":
        request = Request(scope, receive)
        await send_answer(Answer(200, [], BODIES[scope["path"]]), request, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
