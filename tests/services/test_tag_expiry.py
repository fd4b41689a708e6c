"""The end that a push gives its tags, and when manifests were pulled: over HTTP, the clock turned."""

import json
from contextlib import ExitStack
from datetime import datetime
from types import SimpleNamespace

import httpx
import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.model.clock import DAY, HOUR, MINUTE, SECOND
from tests.protocol.documents import code_of
from tests.support.clock import FakeClock
from tests.support.postgres import new_database
from tests.support.server import OCI_INDEX, basic, digest_of


class Registry(SimpleNamespace):
    """An application in this process, and what tests do with it."""

    async def push(self, reference, *, max_age=None, annotations=None, word="one", code=201):
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        body = json.dumps(document | {"annotations": {"word": word, **(annotations or {})}})
        headers = {"content-type": OCI_INDEX}
        headers |= {"Entrepot-Max-Age": max_age} if max_age is not None else {}
        answer = await self.http.put(
            f"/v2/app/manifests/{reference or digest_of(body.encode())}",
            content=body,
            headers=headers,
        )
        assert answer.status_code == code, answer.text
        return answer

    async def tags(self):
        """Each tag, as the management API shows it."""
        found = (await self.http.get("/api/v1/organisations/main/repositories")).json()["items"]
        answer = await self.http.get(f"/api/v1/repositories/{found[0]['id']}/tags")
        return {tag["name"]: tag for tag in answer.json()["items"]}

    async def sweep(self):
        await self.app.lifecycle.retention_run.sweep()
        return set(await self.tags())


@pytest.fixture(params=["sqlite", "postgres"])
async def registry(request, tmp_path):
    with ExitStack() as stack:
        url = ""
        if request.param == "postgres":
            url = stack.enter_context(new_database(request.getfixturevalue("postgres_server")))
        environment = {"ENTREPOT_DATA": str(tmp_path), "ENTREPOT_DATABASE__URL": url}
        settings = load(None, {name: text for name, text in environment.items() if text})
        await prepare(settings)
        clock = FakeClock()
        app = Application(settings, clock)
        token = (tmp_path / "admin.token").read_text().strip()
        async with (
            app.run(),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://localhost:5000",
                headers=basic(token),
            ) as http,
        ):
            yield Registry(app=app, clock=clock, http=http)


def seconds_between(tag):
    pushed, expires = (datetime.fromisoformat(tag[name]) for name in ("pushed_at", "expires_at"))
    return (expires - pushed).total_seconds()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("90s", 90),
        ("30m", 1_800),
        ("1h30m", 5_400),
        ("2d", 172_800),
        ("1d2h3m4s", 93_784),
        ("36500d", 36_500 * 86_400),
    ],
)
async def test_a_push_says_by_header_or_annotation_how_long_its_tags_live(registry, said, seconds):
    await registry.push("by-header", max_age=said)
    await registry.push("by-annotation", annotations={"org.entrepot.max-age": said})
    await registry.push("without")

    tags = await registry.tags()

    assert seconds_between(tags["by-header"]) == seconds
    assert seconds_between(tags["by-annotation"]) == seconds
    assert tags["without"]["expires_at"] is None


async def test_the_header_counts_before_the_annotation(registry):
    await registry.push("v1", max_age="1h", annotations={"org.entrepot.max-age": "2d"})

    assert seconds_between((await registry.tags())["v1"]) == 3_600


@pytest.mark.parametrize(
    "said",
    [
        "",
        "2",
        "0s",
        "-1d",
        "1.5h",
        "1h2d",
        "2 d",
        "1w",
        "36501d",
        "\N{ARABIC-INDIC DIGIT ONE}d",
        "9" * 40 + "d",
    ],
)
async def test_what_is_no_length_of_time_is_refused_with_a_sentence(registry, said):
    answer = await registry.push("v1", annotations={"org.entrepot.max-age": said}, code=400)

    assert code_of(answer) == "MANIFEST_INVALID"
    assert "such as 90s, 30m, 1h30m or 2d" in answer.text


async def test_a_tag_goes_when_its_time_is_over_and_not_a_second_earlier(registry):
    await registry.push("snapshot", max_age="2h")
    await registry.push("v1")
    await registry.sweep()  # the repository was due, and is again when the tag expires

    registry.clock.advance(2 * HOUR - SECOND)
    before = await registry.sweep()
    registry.clock.advance(2 * SECOND)
    after = await registry.sweep()

    assert before == {"snapshot", "v1"}
    assert after == {"v1"}


async def test_a_tag_that_expires_between_two_looks_does_not_wait_for_the_second(registry):
    await registry.push("soon", max_age="5m")
    await registry.push("later", max_age="10m")
    registry.clock.advance(6 * MINUTE)
    first = await registry.sweep()

    registry.clock.advance(5 * MINUTE)

    assert first == {"later"}
    assert await registry.sweep() == set()


async def test_the_next_push_of_a_tag_without_it_takes_its_end_away(registry):
    await registry.push("v1", max_age="1h")

    await registry.push("v1")

    assert (await registry.tags())["v1"]["expires_at"] is None


async def test_what_is_pushed_by_digest_alone_has_no_tag_that_ends(registry):
    await registry.push(None, max_age="1h")

    assert await registry.tags() == {}


async def test_pulls_are_noted_within_the_minute_by_tag_and_by_digest(registry):
    digest = (await registry.push("v1")).headers["docker-content-digest"]
    await registry.push("v2", word="two")
    unpulled = (await registry.tags())["v1"]["pulled_at"]

    await registry.http.get("/v2/app/manifests/v1")
    await registry.app.lifecycle.last_pulls.flush()
    first = (await registry.tags())["v1"]["pulled_at"]
    registry.clock.advance(2 * HOUR)
    await registry.http.get(f"/v2/app/manifests/{digest}")
    await registry.app.lifecycle.last_pulls.flush()

    tags = await registry.tags()
    assert unpulled is None
    assert tags["v1"]["pulled_at"] > first
    assert tags["v2"]["pulled_at"] is None


async def test_a_manifest_is_written_at_most_once_an_hour(registry):
    await registry.push("v1")
    seen = []

    for _ in range(3):
        await registry.http.get("/v2/app/manifests/v1")
        await registry.app.lifecycle.last_pulls.flush()
        seen.append((await registry.tags())["v1"]["pulled_at"])
        registry.clock.advance(31 * MINUTE)

    assert seen[0] == seen[1]
    assert seen[1] < seen[2]


async def test_who_may_push_and_asks_whether_it_is_there_has_not_pulled(registry):
    await registry.push("v1")

    await registry.http.head("/v2/app/manifests/v1")

    assert await registry.app.lifecycle.last_pulls.flush() == 0


async def test_what_was_pulled_within_the_policys_days_stays(registry):
    for tag in ("used", "unused"):
        await registry.push(tag, word=tag)
    registry.clock.advance(6 * DAY)
    await registry.http.get("/v2/app/manifests/used")
    await registry.app.lifecycle.last_pulls.flush()
    retention = {"days": 7, "pulled_days": 3}
    await registry.http.patch("/api/v1/organisations/main", json={"retention": retention})
    registry.clock.advance(2 * DAY)

    first = await registry.sweep()
    registry.clock.advance(2 * DAY)

    assert first == {"used"}
    assert await registry.sweep() == set()
