"""docs/reference/errors.md has a line for every code, with every status it comes with."""

import re
from pathlib import Path

from entrepot.oci.errors import ON_THE_WIRE, Code

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def test_every_code_has_its_line_with_its_statuses():
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([\d, ]+) \|", PAGE.read_text(), re.MULTILINE))

    assert set(rows) == {str(code) for code in Code}
    for status, code in ON_THE_WIRE.values():
        assert str(status) in rows[code], f"{code} with {status}"
