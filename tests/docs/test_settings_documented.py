import re
from pathlib import Path

from entrepot.config import environment_name, fields

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"
ROW = re.compile(r"^\| `([a-z_.]+)` \| `(\w+)` \| .*? \| (.+) \|$", re.MULTILINE)


def test_every_setting_has_its_line_and_every_line_its_setting():
    documented = {path: (name, text) for path, name, text in ROW.findall(PAGE.read_text("utf-8"))}

    assert documented == {
        path: (environment_name(path), field.description) for path, field in fields().items()
    }
