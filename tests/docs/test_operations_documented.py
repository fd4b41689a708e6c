"""docs/reference/api.md has a line for every operation of the management API, and none beside."""

import re
from pathlib import Path

from entrepot.api.call import ACTION
from entrepot.api.description import operations
from tests.support.api_document import document

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
ROW = re.compile(r"^\| `(\w+)` \| `([A-Z]+) (\S+)` \| `([a-z-]+)` \| \S.* \|$", re.MULTILINE)


def test_every_operation_has_its_line_with_method_path_and_action():
    rows = ROW.findall(PAGE.read_text())

    ours = [
        (operation["operationId"], method, path, operation[ACTION])
        for method, path, operation in operations(document())
    ]
    assert sorted(rows) == sorted(ours)
