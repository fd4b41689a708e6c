import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    words = (entry for group in groups for entry in group if isinstance(entry, str))
    return {re.split(r"[\[<>=!~; ]", word, maxsplit=1)[0] for word in words}


def test_every_direct_dependency_says_what_it_saves_and_who_keeps_it():
    page = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text()
    rows = re.findall(r"^\| ([a-z][a-z0-9-]*) \| \S.* \| \S.* \|$", page, re.MULTILINE)

    assert sorted(rows) == sorted(declared())
