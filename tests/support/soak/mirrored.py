"""A pull-through repository below the soak: it loses all its blobs again and again, and has them.

Its images share layers with those that clients push. Eviction looks every ten minutes; here it is
run from beside the server, on the same database.
"""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import httpx

from entrepot.db.connect import connect
from entrepot.model.clock import HOUR, SystemClock
from entrepot.services.eviction import Eviction, EvictionLimits
from tests.support.server import Client, Server, basic
from tests.support.soak.content import Contents, Image
from tests.support.upstreams.distribution import Distribution

NAME = "soak/cached"
_PATH = "library/app"
_IMAGES = 8
_EVERY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The repository, and what its upstream has, by tag."""

    id: str
    images: dict[str, Image]

    def delete(self, server: Server) -> None:
        """Delete the repository."""
        with _api(server) as api:
            version = api.get(f"/repositories/{self.id}").headers["etag"]
            gone = api.delete(f"/repositories/{self.id}", headers={"if-match": version})
            assert gone.status_code == 204, gone.text


def make_mirrored(server: Server, upstream: Distribution) -> Mirrored:
    """Push to the upstream, and make a repository of it."""
    contents = Contents("mirrored")
    images = {f"v{number}": contents.image() for number in range(_IMAGES)}
    pusher = Client(upstream, mode="open")
    for tag, image in images.items():
        for part in image.parts:
            pusher.push_blob(_PATH, part.content)
        pusher.push_manifest(_PATH, tag, image.body, image.media_type)
    pusher.close()
    with _api(server) as api:
        _made(api, "/organisations/main/upstreams", {"name": "upstream", "url": upstream.url})
        cached = {"name": "upstream", "path": _PATH, "freshness": 3600}
        body = {"path": NAME, "upstream": cached}
        made = _made(api, "/organisations/main/repositories", body)
    return Mirrored(made["id"], images)


def _api(server: Server) -> httpx.Client:
    return httpx.Client(
        base_url=f"{server.url}/api/v1",
        headers=basic(server.token),
        timeout=60,
        verify=server.trust,
    )


def _made(api: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


class Evicting:
    """Takes every blob out of pull-through repositories, again and again; how many it took."""

    def __init__(self, database_url: str) -> None:
        self.evicted = 0
        self._database_url = database_url
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._is_over.set()
        self._thread.join()

    async def _run(self) -> None:
        database = connect(self._database_url, pool_size=1)
        await database.open()
        try:
            eviction = Eviction(database, SystemClock(), EvictionLimits(HOUR, most_bytes=1))
            while not self._is_over.is_set():
                self.evicted += await eviction.sweep()
                await asyncio.sleep(_EVERY_SECONDS)
        finally:
            await database.close()
