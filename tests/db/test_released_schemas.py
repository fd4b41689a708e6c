"""The program of the last schema that was released works on today's schema.

A commit is tagged `schema-N` when the first release with that schema comes out. Nodes of it go on
while others already run this program, unless this schema says that it needs a newer one.
"""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.db.migrate import HEAD
from tests.support.programs import need

pytestmark = pytest.mark.slow  # a test suite of its own

TOP = Path(__file__).parents[2]
CONTRACT = "tests/db/test_database_contract.py"
NONE = (
    "no commit is tagged schema-N with an older schema that may still be used:"
    " that one of two releases works on the schema of the other is not shown"
)
# Loaded by the older suite, which then has the schema made by this program.
_PLUGIN = """
import asyncio, os, subprocess
from entrepot.db import migrate as migration

async def migrate(url):
    code = "import asyncio, sys; from entrepot.db.migrate import migrate;" \\
           " asyncio.run(migrate(sys.argv[1]))"
    newer = {**os.environ, "PYTHONPATH": os.environ["NEWER"]}
    await asyncio.to_thread(
        subprocess.run, [os.environ["NEWER_PYTHON"], "-c", code, url], env=newer, check=True
    )
    await migration.check(url)

migration.migrate = migrate
"""


def git(*words: str) -> str:
    need("git")
    done = subprocess.run(["git", *words], cwd=TOP, capture_output=True, text=True, check=True)
    return done.stdout


def oldest_compatible() -> str:
    """The oldest schema whose programs may work on today's."""
    (file,) = (TOP / "src/entrepot/db/revisions/versions").glob(f"{HEAD}_*.py")
    module = importlib.import_module(f"entrepot.db.revisions.versions.{file.stem}")
    compatible_with: str = module.compatible_with
    return compatible_with


def newest_tag() -> str | None:
    """The tag of the last released schema before today's that may still be used with it."""
    numbers = [
        found[1]
        for tag in git("tag", "--list").split()
        if (found := re.fullmatch(r"schema-(\d{4})", tag))
    ]
    older = [number for number in numbers if oldest_compatible() <= number < HEAD]
    return f"schema-{max(older)}" if older else None


def run_contract(commit: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The contract suite of a commit, on the schema of this program."""
    older = folder / "older"
    older.mkdir()
    (folder / "todays_schema.py").write_text(_PLUGIN)
    archive = subprocess.run(["git", "archive", commit], cwd=TOP, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", older], input=archive.stdout, check=True)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{older / 'src'}:{folder}",
        "NEWER": str(TOP / "src"),
        "NEWER_PYTHON": sys.executable,
    }
    plugins = ("-p", "todays_schema", "-p", "no:cacheprovider")
    words = ("-m", "pytest", "-q", *plugins, "-m", "not slow", CONTRACT)
    return subprocess.run(
        [sys.executable, *words],
        cwd=older,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_last_released_program_works_on_this_schema(tmp_path):
    tag = newest_tag()
    if tag is None:
        pytest.skip(NONE)

    done = run_contract(tag, tmp_path)

    assert done.returncode == 0, done.stdout


def test_a_suite_of_another_commit_runs_on_this_schema(tmp_path):
    done = run_contract("HEAD", tmp_path)

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
