import pytest

from tests.support.skips import ALLOWED

pytest_plugins = ["pytester"]

ALLOWED_REASON = "needs root: tc"
# Plugins that have nothing to do with skips and want settings of their own.
QUIET = ("-p", "no:randomly", "-p", "no:asyncio")
SUITE = """
import pytest


@pytest.mark.skipif(True, reason={reason!r})
def test_left_out(): ...


def test_run(): ...
"""


def run(pytester: pytest.Pytester, reason: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(SUITE.format(reason=reason))
    return pytester.runpytest("-p", "tests.support.skips", *QUIET, *options)


def test_an_unexpected_skip_fails_a_strict_run(pytester):
    result = run(pytester, "not today", "--strict-skips")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["UNEXPECTED: not today (1: *test_left_out)"])


def test_an_unexpected_skip_is_only_listed_otherwise(pytester):
    result = run(pytester, "not today")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["UNEXPECTED: not today*", "1 skipped; 0 deselected*"])


def test_a_skip_that_the_table_knows_passes(pytester):
    result = run(pytester, ALLOWED_REASON, "--strict-skips")

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"{ALLOWED_REASON} (1: *"])


def test_a_skipped_module_counts(pytester):
    pytester.makepyfile("import pytest\npytest.importorskip('no_such_module')")

    result = pytester.runpytest("-p", "tests.support.skips", *QUIET, "--strict-skips")

    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["UNEXPECTED: could not import 'no_such_module'*"])


def test_every_allowed_reason_says_why():
    assert all(allowed.reason and allowed.why for allowed in ALLOWED)
