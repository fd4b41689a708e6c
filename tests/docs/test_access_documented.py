"""docs/reference/access.md has the table of rights as it is."""

import re
from pathlib import Path

from entrepot.model.access import Action
from entrepot.model.rights import (
    ADMINISTRATOR_ACTIONS,
    MANAGING_ACTIONS,
    ORGANISATION_ACTIONS,
    PROJECT_ACTIONS,
    PULL_ACTIONS,
    ROLE_ACTIONS,
    SCOPE_WORDS,
    WITHIN_PATTERNS,
    scope_word,
)

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "access.md").read_text("utf-8")
COLUMNS = {
    **{str(role): actions for role, actions in ROLE_ACTIONS.items()},
    "server administrator": ADMINISTRATOR_ACTIONS,
    "organisation token": ORGANISATION_ACTIONS,
    "managing token": MANAGING_ACTIONS,
    "project token": PROJECT_ACTIONS,
    "pull token": PULL_ACTIONS,
}


def test_every_action_has_its_line_with_who_may_do_it():
    [head] = re.findall(r"^\| Action \|.*$", PAGE, re.MULTILINE)
    names = [cell.strip() for cell in head.strip("|").split("|")]
    rows = re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", PAGE, re.MULTILINE)

    assert names == ["Action", *COLUMNS, "Word", "What"]
    assert [action for action, _ in rows] == [
        str(action) for action in Action if action not in {Action.PUBLIC, Action.LOGIN}
    ]
    for action, cells in rows:
        said = [cell.strip() for cell in cells.split("|")]
        marks = ["x" if action in actions else "" for actions in COLUMNS.values()]
        assert said[: len(marks)] == marks, action
        assert said[len(marks)] == f"`{scope_word(Action(action))}`"
        assert said[-1]


def test_the_words_and_what_patterns_leave_are_named():
    assert ", ".join(f"`{word}`" for word in SCOPE_WORDS) in PAGE
    [left] = re.findall(r"to its organisation only (.*?);", PAGE)
    assert set(re.findall(r"`([a-z-]+)`", left)) == {str(action) for action in WITHIN_PATTERNS}
