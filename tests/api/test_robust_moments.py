"""Moments and cursors from beyond every calendar: refused with the reason, never an error of ours."""

import base64

import pytest

BEYOND = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]


@pytest.fixture
def repository(owner, slug):
    """Its path in the API."""
    made = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})
    return f"/repositories/{made['id']}"


@pytest.mark.parametrize("moment", [*BEYOND, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_tag_is_restored_to_no_moment_beyond_the_calendar(owner, repository, moment):
    tag = owner.post(f"{repository}/tags/v1/restore", {"at": moment})
    tags = owner.post(f"{repository}/retention/restore", {"since": moment})

    assert tag.status_code in {404, 422, 400}, tag.text
    assert tags.status_code in {200, 422, 400}, tags.text


@pytest.mark.parametrize(
    "key",
    [
        "tag:99999999999999999999:v1",
        "tag:-99999999999999999999:v1",
        "manifest:9" + "9" * 30 + ":x",
        "tag:--5:x",
        "tag:5:\ud7ff",
        "tag:٣:x",
    ],
)
def test_a_preview_goes_on_behind_no_moment_beyond_all_numbers(owner, repository, key):
    cursor = base64.urlsafe_b64encode(key.encode()).decode()

    answer = owner.post(f"{repository}/retention/preview", {}, params={"cursor": cursor})

    assert answer.status_code in {200, 422, 400}, answer.text
