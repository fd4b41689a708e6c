"""docs/reference/audit.md has a line for every action that is recorded, and none that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "audit.md"
_ACTION = re.compile(
    r'(?<!field=)"((?:blob|invitation|manifest|member|mirror|organisation|project|repository|server|tag|token|upstream|user)'
    r'\.[a-z-]+)"'
)


def test_every_action_has_its_line():
    services = (ROOT / "src" / "entrepot" / "services").glob("*.py")
    recorded = {action for path in services for action in _ACTION.findall(path.read_text())}

    documented = set(re.findall(r"`([a-z]+\.[a-z-]+)`", PAGE.read_text()))

    assert documented == recorded
