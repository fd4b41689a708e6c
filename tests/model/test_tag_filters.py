import random

import pytest

from entrepot.model.errors import FieldInvalid
from entrepot.model.tag_filters import TagFilter, age

# From the newest to the oldest.
IN_ORDER = [
    "latest",
    "20240101",
    "v10.0.0",
    "2.0.0",
    "2.0.0-rc2",
    "2.0.0-rc1",
    "2.0.0-beta.11",
    "2.0.0-beta.2",
    "1.10.1",
    "1.10.0-alpine",
    "1.10.0",
    "1.10-alpine",
    "1.10",
    "1.9.3",
    "v1.2.0",
    "1.2.0-alpha",
    "1",
    "alpine3.19",
    "stable",
    "alpine",
]


def test_names_are_ordered_as_people_read_versions():
    shuffled = random.Random(4).sample(IN_ORDER, len(IN_ORDER))

    assert sorted(shuffled, key=age, reverse=True) == IN_ORDER


def test_the_newest_are_as_many_as_asked_for_without_signatures():
    names = ["1.0", "2.0", "3.0", "sha256-" + "a" * 64 + ".sig", "sha256-" + "b" * 64]

    assert TagFilter.parse("newest:2").choose(names) == ["3.0", "2.0"]
    assert TagFilter.parse("newest:9").choose(names) == ["3.0", "2.0", "1.0"]


def test_a_pattern_takes_what_fits_and_all_takes_everything_that_is_a_tag():
    names = ["v1.0", "v1.1", "v2.0", "sha256:" + "a" * 64, "", "no/tag", "x" * 129]

    assert TagFilter.parse("v1.*").choose(names) == ["v1.1", "v1.0"]
    assert set(TagFilter.parse("all").choose(names)) == {"v1.0", "v1.1", "v2.0"}


@pytest.mark.parametrize(
    "text", ["", "newest:0", "newest:", "newest:-1", "newest:1000000", "a b", "v1,v2"]
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(FieldInvalid):
        TagFilter.parse(text)
