"""docs/explain/compatibility.md: each failure is there once, and the tests it names exist."""

import re
from pathlib import Path

_HERE = Path(__file__).parent
_TOP = _HERE.parents[1]
_PAGE = _TOP / "docs" / "explain" / "compatibility.md"
_NAMED = re.compile(r"`((?:tests/\w+/)?test_\w+\.py)::(test_\w+)`")


def rows(heading):
    """The cells of the table under a heading."""
    section = _PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_of_the_thirty_failures_has_its_row():
    numbers = [int(row[0]) for row in rows("Failures that were seen in registries")]

    assert numbers == list(range(1, 31))


def test_a_failure_has_a_test_or_a_reason():
    for _, _, here, shown in rows("Failures that were seen in registries"):
        assert _NAMED.search(shown) or here.startswith("Cannot happen: "), here
    for _, here, shown in rows("Failures that were seen in caches"):
        assert _NAMED.search(shown), here


def test_a_quirk_has_a_test_or_a_reason():
    for heading in ("What clients expect beyond the specification", "Decisions of ours"):
        for _, here, shown in rows(heading):
            assert _NAMED.search(shown) or ":" in here, here
    for _, shown in rows("What clients do"):
        assert _NAMED.search(shown)


def test_every_test_that_the_page_names_exists():
    named = set(_NAMED.findall(_PAGE.read_text()))

    missing = {
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in ((_TOP if "/" in file else _HERE) / file).read_text()
    }

    assert len(named) > 60
    assert not missing
