"""Policies in words and numbers, and what they say of one tag."""

import pytest

from entrepot.model.clock import DAY, HOUR
from entrepot.model.errors import FieldInvalid
from entrepot.model.retention import Retention
from entrepot.model.retention_rules import Rules, TagFacts, UntaggedFacts

NOW = 1_800_000_000_000_000


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"days": 7}, "7 days since the last push"),
        ({"days": 1}, "1 day since the last push"),
        ({"tags": 1}, "the newest tag"),
        (
            {"tags": 10, "keep": ["v*", "latest"]},
            "the newest 10 tags; tags that fit v*, latest stay",
        ),
        ({"never": True}, "never deleted"),
        (
            {"days": 7, "pulled_days": 30, "untagged_days": 1},
            "7 days since the last push; what was pulled within 30 days stays; 1 day without a tag",
        ),
    ],
)
def test_a_policy_says_itself_and_is_read_back(said, sentence):
    policy = Retention.parse(said)

    assert str(policy) == sentence
    assert Retention.from_json(policy.to_json()) == policy


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"days": 7, "tags": 5},
        {"days": 7, "never": True},
        {"days": 0},
        {"days": True},
        {"days": "7"},
        {"days": 36_501},
        {"tags": 1_000_001},
        {"never": 1},
        {"days": 7, "keep": "v1"},
        {"days": 7, "keep": ["a b"]},
        {"days": 7, "keep": [f"v{number}" for number in range(65)]},
        {"days": 7, "pulled_days": 0},
        {"days": 7, "untagged_days": -1},
        {"days": 7, "weeks": 1},
    ],
)
def test_a_policy_says_one_thing_and_not_too_much(said):
    with pytest.raises(FieldInvalid):
        Retention.parse(said)


def rules(newest=None, **said):
    policy = Retention.parse(said)
    return Rules(policy, ("imm-*",), ("prot-*",), 7, NOW, newest)


def tag(name="v1", *, age=0, expires_at=None, pulled=None, belongs_to=None):
    pulled_at = None if pulled is None else NOW - pulled
    return TagFacts(name, "sha256:0", NOW - age, expires_at, pulled_at, belongs_to)


@pytest.mark.parametrize(
    ("judged", "by", "goes", "reason"),
    [
        (tag(age=9 * DAY), {"days": 7}, True, "last pushed 9 days ago"),
        (tag(age=7 * DAY), {"days": 7}, False, "pushed 7 days ago"),
        (tag(age=7 * DAY + 1), {"days": 7}, True, "last pushed 7 days ago"),
        (tag(age=5 * HOUR), {"days": 7}, False, "pushed 5 hours ago"),
        (tag(age=-HOUR), {"days": 7}, False, "pushed less than an hour ago"),
        (
            tag(age=9 * DAY, pulled=2 * DAY),
            {"days": 7, "pulled_days": 3},
            False,
            "pulled 2 days ago",
        ),
        (tag(age=9 * DAY, pulled=2 * DAY), {"days": 7}, True, "last pushed 9 days ago"),
        (tag(age=9 * DAY), {"never": True}, False, "nothing is deleted here"),
        (tag("imm-1", age=9 * DAY), {"days": 7}, False, "immutable by pattern imm-*"),
        (tag("prot-1", expires_at=NOW), {"days": 7}, False, "protected by pattern prot-*"),
        (tag("v1", age=9 * DAY), {"days": 7, "keep": ["v*"]}, False, "kept by pattern v*"),
        (
            tag("v1", expires_at=NOW),
            {"never": True, "keep": ["v*"]},
            True,
            "its max-age ended 2027-01-15T08:00:00Z",
        ),
        (tag("v1", expires_at=NOW + 1), {"days": 7}, False, "pushed less than an hour ago"),
        (
            tag(age=9 * DAY, belongs_to="sha256:1"),
            {"days": 7},
            False,
            "belongs to sha256:1",
        ),
        (tag(f"sha512-{'0' * 64}", age=9 * DAY), {"days": 7}, False, "belongs to a digest"),
    ],
)
def test_a_tag_is_judged_with_the_reason(judged, by, goes, reason):
    verdict = rules(**by).of_tag(judged)

    assert (verdict.goes, verdict.reason) == (goes, reason)


def test_the_newest_tags_stay_whatever_their_age():
    judge = rules(newest=(NOW - 10 * DAY, "v2"), tags=3)

    assert judge.of_tag(tag("v2", age=10 * DAY)).reason == "one of the newest 3"
    assert judge.of_tag(tag("v1", age=10 * DAY)).reason == "beyond the newest 3"
    assert not rules(tags=3).of_tag(tag(age=900 * DAY)).goes


@pytest.mark.parametrize(
    ("by", "age", "goes"),
    [
        ({"days": 3}, 4, True),
        ({"days": 3, "untagged_days": 5}, 4, False),
        ({"tags": 3}, 8, True),
        ({"tags": 3}, 6, False),
        ({"never": True}, 900, False),
        ({"never": True, "untagged_days": 1}, 2, True),
    ],
)
def test_a_manifest_without_a_tag_ages_by_its_own_push(by, age, goes):
    found = UntaggedFacts("sha256:0", NOW - age * DAY, None)

    assert rules(**by).of_untagged(found, None).goes is goes
    assert rules(**by).of_untagged(found, "tag v1").reason == "kept by tag v1"
