from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GUILTY = """
import gc
import socket


def test_that_leaves_a_socket_in_a_cycle():
    gc.disable()  # else it might be found sooner
    here = [socket.socket()]
    here.append(here)


def test_after_it(): ...
"""


def test_what_a_file_leaves_open_fails_that_file(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makepyfile(test_1_guilty=GUILTY, test_2_innocent="def test_innocent(): ...")

    result = pytester.runpytest_subprocess(
        *("-p", "tests.support.left_open", "-W", "error", "-rE"),
        *("-p", "no:randomly", "-p", "no:asyncio"),
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["ERROR test_1_guilty.py::test_after_it*"])
