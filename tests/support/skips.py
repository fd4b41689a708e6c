"""Which tests may be skipped, and why; with --strict-skips any other skip turns the run red.

Also declares the marks, so that every way of running pytest knows them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

MARKS = (
    "slow: more than a few seconds, or needs the Debian packages; not in `make check`",
    "soak: long load, every kill point, huge artifacts; only in `make soak`",
    "fuzz: generated input without end; only in `make fuzz`",
    "bench: measures and asserts no time; only in `make bench`",
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """A reason that a skip may give, as a pattern over all of it, and why that is acceptable."""

    reason: str
    why: str


ALLOWED = (
    Allowed(
        r"(helm|regctl|nerdctl|crictl) is not installed: go install \S+",
        "Debian has no package of it, and Go is no requirement of ours",
    ),
    Allowed(
        r"(crane|notation|Docker 28) is not installed: .+",
        "only Debian's unreleased suite has it, and that one moves",
    ),
    Allowed(
        r"Docker 26, buildx, oras and cosign are not here: .+",
        "they are fetched for each test machine, which may be cut off from Debian's mirrors",
    ),
    Allowed(
        r"needs (root|CAP_\w+|user namespaces|network namespaces): .+",
        "a container or an ordinary account may not be allowed to",
    ),
    Allowed(
        r"no commit is tagged schema-N .+",
        "there is none before the first release, and none after a schema that needs a newer program",
    ),
    Allowed(
        r"needs \d+ GB free in .+",
        "huge artifacts do not fit everywhere; the same path is tested with smaller ones",
    ),
)


class Skips:
    """Collects what was skipped and judges it."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.seen: dict[str, list[str]] = {}

    def add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Keep the reason of a skip."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.seen.setdefault(reason_of(report), []).append(report.nodeid)

    def unexpected(self) -> Iterator[str]:
        """The reasons that the table does not know."""
        for reason in self.seen:
            if not any(re.fullmatch(allowed.reason, reason) for allowed in ALLOWED):
                yield reason

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.add(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.strict and session.exitstatus == pytest.ExitCode.OK and any(self.unexpected()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        left_out = len(terminalreporter.stats.get("deselected", []))
        terminalreporter.section("skipped, and why")
        unexpected = set(self.unexpected())
        for reason, tests in sorted(self.seen.items()):
            mark = "UNEXPECTED: " if reason in unexpected else ""
            terminalreporter.line(
                f"{mark}{reason} ({len(tests)}: {tests[0]}{', …'[: 3 * (len(tests) > 1)]})"
            )
        terminalreporter.line(
            f"{sum(map(len, self.seen.values()))} skipped; {left_out} deselected by mark or name"
        )
        if unexpected and self.strict:
            terminalreporter.line(
                "FAILED: an unexpected skip counts as a failure; the table is tests/support/skips.py",
                red=True,
            )


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The words that were given with the skip."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail when a test is skipped for a reason that tests/support/skips.py does not list",
    )


def pytest_configure(config: pytest.Config) -> None:
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.pluginmanager.register(Skips(strict=config.getoption("strict_skips")), "skips")
