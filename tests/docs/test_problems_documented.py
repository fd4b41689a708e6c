"""docs/reference/errors.md has a line for every problem of the management API, with its status."""

import re
from pathlib import Path

from entrepot.api.problems import FRAMEWORK, PROBLEMS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def test_every_problem_has_its_line_with_its_status():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)

    ours = {(name, str(status)) for status, name in [*PROBLEMS.values(), *FRAMEWORK.items()]}
    assert sorted(rows) == sorted(ours)
