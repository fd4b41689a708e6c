"""What an administrator does to a registry in this process, through its management API."""

from typing import Any

import httpx

from tests.mirror.turned import Cached, Turned

UPSTREAMS = "organisations/main/upstreams"


class Managed:
    """The API of a process, as its administrator calls it."""

    def __init__(self, turned: Turned) -> None:
        self._turned = turned

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request, and its answer whatever that is."""
        return await self._turned.client.request(method, f"/api/v1/{path}", json=body)

    async def made(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request that has to succeed."""
        answer = await self.ask(method, path, body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refused(self, method: str, path: str, body: Any) -> str:
        """The sentence of one that has to be refused for what it says."""
        answer = await self.ask(method, path, body)
        assert answer.status_code == 422, answer.text
        sentence: str = answer.json()["detail"]
        return sentence

    async def cache(self, upstream: str, path: str) -> Cached:
        """A new pull-through repository."""
        name = f"cache/{upstream}/{path}"
        body = {"path": name, "upstream": {"name": upstream, "path": path, "freshness": 0}}
        await self.made("POST", "organisations/main/repositories", body)
        return Cached(self._turned, name)
