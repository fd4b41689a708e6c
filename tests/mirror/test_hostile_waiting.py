"""Upstreams that hang: every phase has its limit, nobody waits for long who could be answered."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.mirror.stand import stood
from tests.support.server import digest_of
from tests.support.upstreams import Gate, ScriptedUpstream, faults
from tests.support.upstreams.silent import mute, refusing, unreachable

pytestmark = pytest.mark.slow  # the limits are those that a server has

PATH = "library/app"
LONGEST = 29.0  # clients give up after 30 s without headers


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stand")
    with stood(folder, ENTREPOT_OUTBOUND__CONCURRENCY="2") as running:
        yield running


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "1")


@pytest.fixture
def cache(stand, upstream, image):
    return stand.cache(upstream, PATH, freshness=0)


def timed(question, *arguments):
    begun = time.monotonic()
    answer = question(*arguments)
    return answer, time.monotonic() - begun


PHASES = {
    "a manifest without headers": ("manifest", faults.hangs("headers")),
    "a manifest with half of its headers": ("manifest", faults.hangs("half the headers")),
    "a blob without headers": ("blob", faults.hangs("headers")),
    "a list without headers": ("tags", faults.hangs("headers")),
}
SILENCES = {"nobody accepts": unreachable, "nobody speaks": mute, "nobody listens": refusing}


def test_no_phase_of_a_cold_pull_is_waited_for_longer_than_a_client_waits(stand):
    """All at once: the longest limit is that of headers, 20 seconds."""
    questions = {}
    with ExitStack() as stack:
        for name, (kind, fault) in PHASES.items():
            upstream, cache, paths = _fresh(stand, stack)
            upstream.script(fault, kind=kind)
            questions[name] = (cache.get, paths[kind])
        for name, silence in SILENCES.items():
            upstream, cache, paths = _fresh(stand, stack)
            upstream.stop()
            stack.enter_context(silence(upstream.port))
            questions[name] = (cache.get, paths["manifest"])
        with ThreadPoolExecutor(len(questions)) as threads:
            asked = {name: threads.submit(timed, *each) for name, each in questions.items()}
            answers = {name: each.result() for name, each in asked.items()}

    for name, (answer, seconds) in answers.items():
        assert answer.status in {502, 504}, name
        assert json.loads(answer.body)["errors"][0]["message"], name
        assert seconds < LONGEST, name


def _fresh(stand, stack):
    upstream = ScriptedUpstream()
    stack.enter_context(upstream.running())
    image = upstream.put_image(PATH, "1")
    paths = {"manifest": "manifests/1", "blob": f"blobs/{image.layers[0]}", "tags": "tags/list"}
    return upstream, stand.cache(upstream, PATH), paths


@pytest.mark.parametrize("phase", ["headers", "half the headers", "body"])
def test_a_warm_tag_waits_two_seconds_once_and_hardly_afterwards(cache, upstream, image, phase):
    assert cache.manifest("1").body == image.body
    upstream.put_image(PATH, "1")
    upstream.script(faults.hangs(phase), kind="manifest")

    first, first_seconds = timed(cache.manifest, "1")
    second, second_seconds = timed(cache.manifest, "1")

    for answer in (first, second):
        assert (answer.status, answer.body) == (200, image.body)
        assert answer.headers["warning"].startswith("299 - ")
    assert first_seconds < 6  # 2, and what a busy machine takes
    assert second_seconds < min(first_seconds, 1.9)


def test_an_upstream_that_recovers_is_believed_again(cache, upstream, image):
    assert cache.manifest("1").body == image.body
    moved = upstream.put_image(PATH, "1")
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest", method="HEAD", times=1)
    assert cache.manifest("1").body == image.body  # stale, while the question goes on

    gate.open()
    deadline = time.monotonic() + 30
    while (answer := cache.manifest("1")).body != moved.body:
        assert time.monotonic() < deadline, answer

    assert "warning" not in answer.headers


def test_blobs_that_are_coming_leave_room_for_questions(cache, upstream):
    """Two transfers are all that this server allows itself at once."""
    gate = Gate()
    layers = upstream.put_image(PATH, "2", layers=[50_000, 50_000, 50_000]).layers
    upstream.script(faults.held(gate, 10_000), kind="blob", method="GET")
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(cache.blob, layer) for layer in layers]
        gate.wait_until_reached()

        manifest, seconds = timed(cache.manifest, "2")

        gate.open()
        blobs = [each.result() for each in asked]
    assert manifest.status == 200
    assert seconds < 6
    assert [digest_of(blob.body) for blob in blobs] == list(layers)


def test_an_upstream_that_does_not_answer_is_saved_only_when_told_to(stand):
    with refusing() as address:
        body = {"name": "silent", "url": f"http://{address}"}

        refused = stand.admin.post("/organisations/main/upstreams", body)
        kept = stand.admin.post("/organisations/main/upstreams", body | {"save_unchecked": True})

    assert refused.status_code in {422, 502, 503, 504}, refused.text
    assert kept.status_code == 201, kept.text
    assert kept.json()["is_checked"] is False
