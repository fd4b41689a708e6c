"""What must not stand in the source: code made of data, and SQL made of values (T89)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "entrepot"
FILES = sorted(SOURCE.rglob("*.py"))

MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "xml", "telnetlib"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "input"}
METHODS = {"extractall", "extract", "unsafe_load"}
# What speaks to a driver; its statements come from the files above it.
DRIVERS = {"postgres", "sqlite", "sqlite_connection", "sqlite_reads", "migrate"}
# Fragments of SQL that a query is put together from: names and conditions of our own, never values.
FRAGMENTS = {
    "audit.py": {"where", "conditions"},
    "fsck.py": {"BROKEN[kind]"},
    "manifests.py": {"table"},
    "organisations.py": {"QUOTA.replace('o.', '')"},
    "orphans.py": {"table", "column"},
    "purge.py": {"table", "key"},
    "repositories.py": {"conditions"},
    "sealed.py": {"where.column", "where.table", "key", "behind", "_names(where)", "row"},
}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in FILES:
        yield file, ast.parse(file.read_text(), str(file))


def findings(tree: ast.Module) -> Iterator[str]:
    """What must not be there, one line each."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in MODULES:
                yield f"import of {name}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS or called.rpartition(".")[2] in METHODS:
                yield f"{node.lineno}: call of {called}"
            if any(
                word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords
            ):
                yield f"{node.lineno}: a shell"


@pytest.mark.parametrize("code", ["import pickle", "eval('1')", "run('x', shell=True)"])
def test_the_search_finds(code):
    assert list(findings(ast.parse(code)))


def test_nothing_makes_code_of_data():
    found = [
        f"{file.relative_to(SOURCE)}:{line}" for file, tree in trees() for line in findings(tree)
    ]

    assert found == []


def sql_values(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What is filled into statements."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in {"fetch_one", "fetch_all", "execute"} or not node.args:
            continue
        sql = node.args[0]
        if isinstance(sql, ast.JoinedStr):
            for part in sql.values:
                if isinstance(part, ast.FormattedValue):
                    yield node.lineno, ast.unparse(part.value)
        elif not isinstance(sql, ast.Constant | ast.Name):
            yield node.lineno, ast.unparse(sql)


def is_constant(value: str) -> bool:
    """Whether a name says so, or a function answers constants with it."""
    found = ast.parse(value, mode="eval").body
    if isinstance(found, ast.Call) and isinstance(found.func, ast.Name):
        return all(isinstance(each, ast.Constant) for each in (*found.args, *found.keywords))
    return value.replace("_", "").isupper()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("_COLUMNS", True), ("_held('bytes')", True), ("name", False), ("_held(name)", False)],
)
def test_constants_are_told_from_values(value, expected):
    assert is_constant(value) is expected


def test_statements_are_filled_with_fragments_of_our_own_only():
    foreign = [
        f"{file.name}:{line}: {{{value}}}"
        for file, tree in trees()
        if file.parent.name == "db" and file.stem not in DRIVERS
        for line, value in sql_values(tree)
        if not is_constant(value) and value not in FRAGMENTS.get(file.name, set())
    ]

    assert foreign == []
