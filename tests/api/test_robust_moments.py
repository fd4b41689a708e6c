"""Moments and cursors from beyond every calendar: refused with the reason, never an error of ours."""

import base64

import pytest


@pytest.fixture
def repository(owner, slug):
    """Its path in the API."""
    made = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})
    return f"/repositories/{made['id']}"


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
