"""Every test that docs/explain/promises.md names is there."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "explain" / "promises.md"


def test_every_promise_names_tests_that_exist():
    sections = PAGE.read_text().split("\n## ")[1:-1]

    for section in sections:
        named = re.findall(r"`(tests/[\w/]+\.py)`", section)
        assert named or "make bench" in section, section.splitlines()[0]
        for path in named:
            assert (TOP / path).is_file(), path
