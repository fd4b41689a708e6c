"""Check what the linters do not: long files, change notes, links in docs, words of another place.

Prints one line per finding; the exit code is 1 when there is any.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400
WHY_LONG = re.compile(r"^# long because: \S", re.MULTILINE)
KINDS = ("security", "removed", "changed", "added", "fixed")
CHANGE = re.compile(rf"[a-z0-9]+(?:-[a-z0-9]+)*\.(?:{'|'.join(KINDS)})\.md")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
# The project speaks of itself: no folder of one machine, and no package registry by name, because
# whoever installs it may use a mirror. Put together here so that this file passes as well.
FOREIGN = {
    "a folder of one machine": r"(?<![\w.$}~-])/" + r"(?:wo" + r"rk|ho" + r"me/\w+|ro" + r"ot)/",
    "a path beside the project": r"\.\./" + r"sha" + r"red/",
    "a package registry": "|".join(
        (
            r"py" + r"pi\.org",
            r"python" + r"hosted",
            r"registry\.npm" + r"js",
            r"crates" + r"\.io",
            r"proxy\.go" + r"lang",
            r"repo1?\.ma" + r"ven",
            r"(?:deb|security|snapshot|ftp)\.deb" + r"ian\.org",
        )
    ),
}
# Written by uv, which has to name where files come from.
GENERATED = {"uv.lock"}


def project_files(root: Path) -> list[Path]:
    """What git keeps or would keep."""
    listed = subprocess.run(
        # A clone may belong to another account than the one that checks it.
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [root / name for name in listed.split("\0") if name and (root / name).is_file()]


def long_files(root: Path, files: list[Path]) -> Iterator[str]:
    """Modules past the length where there is usually a second idea."""
    for file in files:
        if file.suffix == ".py" and file.is_relative_to(root / "src"):
            text = file.read_text(encoding="utf-8")
            lines = text.count("\n")
            if lines > LONGEST and WHY_LONG.search(text) is None:
                yield (
                    f"{file.relative_to(root)}: {lines} lines; past {LONGEST} look for the second "
                    "idea, or say why in a line `# long because: …`"
                )


def foreign_words(root: Path, files: list[Path]) -> Iterator[str]:
    """Lines that speak of a place outside the project."""
    for file in files:
        if str(file.relative_to(root)) in GENERATED:
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for what, pattern in FOREIGN.items():
                if found := re.search(pattern, line):
                    yield f"{file.relative_to(root)}:{number}: names {what}: {found.group()}"


def malformed_changes(root: Path, files: list[Path]) -> Iterator[str]:
    """Change notes that towncrier would lose, or that say nothing."""
    for file in files:
        if file.parent != root / "changes" or file.name == "README.md":
            continue
        if CHANGE.fullmatch(file.name) is None:
            yield f"changes/{file.name}: is not NAME.KIND.md with KIND one of {', '.join(KINDS)}"
        elif not file.read_text(encoding="utf-8").strip().endswith("."):
            yield f"changes/{file.name}: is not a sentence"


def broken_links(root: Path, files: list[Path]) -> Iterator[str]:
    """Links between our own pages that lead nowhere."""
    for file in files:
        if file.suffix == ".md":
            for target in LINK.findall(file.read_text(encoding="utf-8")):
                if not (file.parent / target).exists():
                    yield f"{file.relative_to(root)}: links to {target}, which is not there"


def main() -> int:
    """Exit code 1 when anything is found."""
    files = project_files(ROOT)
    checks = (long_files, foreign_words, malformed_changes, broken_links)
    findings = [finding for check in checks for finding in check(ROOT, files)]
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
