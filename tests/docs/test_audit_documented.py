"""docs/reference/audit.md has a line for every action that is recorded, and none that is gone."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "audit.md"
_ACTION = re.compile(
    r'"((?:blob|invitation|manifest|member|mirror|organisation|project|repository|retention|server|tag|token|upstream|user)'
    r'\.[a-z-]+)"'
)
# Events of the server's log, and fields of requests.
_ELSEWHERE = re.compile(r'(?:log\.\w+\(\s*|field=)"[^"]*"')


def test_every_action_has_its_line():
    services = (ROOT / "src" / "entrepot" / "services").glob("*.py")
    recorded = {
        action
        for path in services
        for action in _ACTION.findall(_ELSEWHERE.sub("", path.read_text()))
    }

    documented = set(re.findall(r"`([a-z]+\.[a-z-]+)`", PAGE.read_text()))

    assert documented == recorded
