"""The management API when something breaks that nobody thought of."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from entrepot.api.application import build
from entrepot.api.surface import ApiSurface
from entrepot.model.access import Actor
from entrepot.services.access import NOBODY
from entrepot.web.hosts import Hosts


def anything(**parts) -> Any:
    """Something that has these parts, in the place of what the surface is given."""
    return SimpleNamespace(**parts)


class Broken:
    async def who(self, _actor: Actor):
        raise RuntimeError("nobody thought of it")


@pytest.fixture
def surface():
    async def nobody(_request):
        return NOBODY

    return ApiSurface(
        build(anything(session=Broken()), "1"),
        anything(actor=nobody),
        Hosts(public_url=None, listen="localhost:5000", is_tls=False),
        anything(observe=lambda *_: None),
        anything(is_for=lambda _: False),
    )


async def test_a_failure_is_answered_once_as_a_problem(surface):
    transport = httpx.ASGITransport(surface)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:5000") as client:
        answer = await client.get("/api/v1/whoami")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:entrepot:problem:failed"
    assert "nobody thought of it" not in answer.text
