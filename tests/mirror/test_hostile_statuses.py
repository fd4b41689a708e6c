"""Upstreams that refuse or fail: what was cached goes out, and no error becomes a false 404."""

import json
import re

import pytest

from tests.support.server import digest_of
from tests.support.upstreams import faults

PATH = "library/app"


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "1")


@pytest.fixture
def cache(stand, upstream, image):
    made = stand.cache(upstream, PATH, freshness=0)
    upstream.log.clear()
    return made


STATUSES = {  # of the upstream -> of ours, when there is nothing to fall back on
    400: {502},
    401: {403, 502},
    403: {403},
    404: {404},
    418: {502},
    429: {429},
    500: {502},
    502: {502},
    503: {502, 503},
    504: {502, 504},
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", ["manifest", "blob", "tags"])
def test_a_cold_question_is_answered_as_the_upstream_answered(cache, upstream, image, status, kind):
    upstream.script(faults.status(status), kind=kind)
    path = {
        "manifest": "manifests/1",
        "blob": f"blobs/{image.layers[0]}",
        "tags": "tags/list",
    }[kind]

    answer = cache.get(path)

    if (kind, status) == ("tags", 404):  # the repository is here, whatever its upstream has
        assert json.loads(answer.body)["tags"] == []
        return
    assert answer.status in STATUSES[status]
    error = json.loads(answer.body)["errors"][0]
    assert error["message"]
    if status == 429:
        assert error["code"] == "TOOMANYREQUESTS"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504])
def test_a_warm_tag_goes_out_stale_with_a_warning(cache, upstream, image, status):
    assert cache.manifest("1").body == image.body
    upstream.put_image(PATH, "1")
    upstream.script(faults.status(status))

    answer = cache.manifest("1")

    assert (answer.status, answer.body) == (200, image.body)
    warning = answer.headers["warning"]
    assert warning.startswith('299 - "')
    assert cache.upstream["name"] in warning
    head = cache.get("manifests/1", "HEAD")
    assert (head.status, head.headers["docker-content-digest"]) == (200, image.digest)


@pytest.mark.parametrize("status", [401, 404, 429, 500])
def test_what_is_named_by_digest_is_served_without_a_call(cache, upstream, image, status):
    cache.manifest("1")
    cache.blob(image.layers[0])
    upstream.script(faults.status(status))
    upstream.log.clear()

    manifest, blob = cache.manifest(image.digest), cache.blob(image.layers[0])

    assert (manifest.body, digest_of(blob.body)) == (image.body, image.layers[0])
    assert upstream.log.entries == []


def test_a_404_is_remembered_for_a_short_time(cache, upstream):
    for _ in range(5):
        assert cache.manifest("missing").status == 404

    assert upstream.log.count(kind="manifest") == 1


def test_a_tag_that_is_gone_upstream_is_gone_here(cache, upstream, image):
    assert cache.manifest("1").status == 200
    del upstream.repository(PATH).tags["1"]

    assert cache.manifest("1").status == 404
    assert cache.manifest(image.digest).status == 200


@pytest.mark.parametrize("path", ["manifests/1", "tags/list"])
def test_the_time_to_wait_is_passed_on(cache, upstream, path):
    upstream.script(faults.status(429, retry_after=7))

    answer = cache.get(path)

    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 7


def test_a_long_time_to_wait_is_said_in_words_and_nobody_is_held_up_by_it(cache, upstream):
    upstream.script(faults.status(429, retry_after=3_600))

    first, second = cache.manifest("new"), cache.manifest("other")

    assert [answer.headers["retry-after"] for answer in (first, second)] == ["10", "10"]
    assert "again in 3600 s" in first.error
    assert re.search(r"again in 3[56]\d\d s", second.error)
    assert upstream.log.count(kind="manifest") == 1


@pytest.mark.parametrize("retry_after", ["nonsense", "-5", "99999999999999999999"])
def test_a_time_to_wait_that_makes_no_sense_does_no_harm(cache, upstream, retry_after):
    upstream.script(faults.status(429, retry_after=retry_after))

    answer = cache.manifest("1")

    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400


def test_an_upstream_that_says_wait_is_not_asked_meanwhile(cache, upstream):
    upstream.script(faults.status(429, retry_after=60))

    answers = [cache.manifest(f"tag-{number}").status for number in range(5)]

    assert answers == [429] * 5
    assert upstream.log.count() == 1


def test_after_failures_the_upstream_is_left_alone_and_a_check_ends_that(
    stand, cache, upstream, image
):
    upstream.stop()
    for number in range(6):
        assert cache.manifest(f"tag-{number}").status in {502, 503}

    upstream.start()
    paused = cache.manifest("1")

    assert paused.status == 502
    assert stand.check(cache.upstream)["check_error"] is None
    assert cache.manifest("1").body == image.body


def test_an_upstream_that_is_gone_leaves_what_was_pulled(cache, upstream, image):
    cache.manifest("1")
    cache.blob(image.layers[0])
    upstream.stop()

    manifest, blob = cache.manifest("1"), cache.blob(image.layers[0])

    assert (manifest.body, digest_of(blob.body)) == (image.body, image.layers[0])
    assert "warning" in manifest.headers


def test_errors_are_not_remembered_as_absence(cache, stand, upstream, image):
    upstream.script(faults.status(500), times=1)
    assert cache.manifest("1").status == 502
    upstream.heal()
    stand.check(cache.upstream)

    assert cache.manifest("1").body == image.body


# The token service.


@pytest.fixture
def token_cache(stand, token_upstream):
    token_upstream.put_image(PATH, "1")
    made = stand.cache(token_upstream, PATH, freshness=0)
    token_upstream.log.clear()
    return made


def test_one_token_serves_many_questions(token_cache, token_upstream):
    image = token_upstream.put_image(PATH, "2", layers=[1_000, 1_000, 1_000])
    for digest in (image.config, *image.layers):
        assert token_cache.blob(digest).status == 200
    assert token_cache.manifest("2").status == 200

    assert token_upstream.log.count(kind="token") <= 1


@pytest.mark.parametrize(
    ("status", "ours"), [(401, {403}), (403, {403}), (429, {429, 503}), (500, {502}), (503, {502})]
)
def test_a_token_service_that_fails_is_no_false_404(token_cache, token_upstream, status, ours):
    token_upstream.login.realm.revoke_all()
    token_upstream.script(faults.status(status), kind="token")

    answer = token_cache.manifest("1")

    assert answer.status in ours
    assert json.loads(answer.body)["errors"][0]["message"]


def test_a_token_that_was_revoked_is_renewed_once(token_cache, token_upstream):
    assert token_cache.manifest("1").status == 200
    token_upstream.login.realm.revoke_all()
    token_upstream.log.clear()

    assert token_cache.manifest("1").status == 200

    assert token_upstream.log.count(kind="token") == 1


def test_tokens_that_never_work_end_in_a_sentence_not_in_a_loop(token_cache, token_upstream):
    token_upstream.login.realm.may_read = lambda _user, _name: False
    token_upstream.login.realm.revoke_all()

    answer = token_cache.manifest("1")

    assert answer.status == 403
    assert token_upstream.log.count() < 8


WRONG_TOKENS = {
    "a page": faults.html,
    "an empty object": faults.body(b"{}"),
    "a list": faults.body(b"[]"),
    "a number": faults.body(b'{"token": 7}'),
    "a line break": faults.body(b'{"token": "a\\r\\nX-Evil: 1"}'),
    "an endless body": faults.endless,
    "an endless life": lambda reply: faults.body(
        reply.body.replace(b'"expires_in": 300', b'"expires_in": 1e999')
        if isinstance(reply.body, bytes)
        else b""
    )(reply),
}


@pytest.mark.parametrize("kind", WRONG_TOKENS)
def test_an_answer_that_is_no_token_is_refused(token_cache, token_upstream, kind):
    token_upstream.login.realm.revoke_all()
    token_upstream.script(WRONG_TOKENS[kind], kind="token")

    answer = token_cache.manifest("1")

    assert answer.status in {200, 502}
    assert not any("x-evil" in entry.headers for entry in token_upstream.log.entries)
    if answer.status == 200:
        assert kind == "an endless life"
