"""What a file of tests leaves open fails its last test, and not whatever runs when it is collected."""

import gc
from collections.abc import Iterator

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is here by now stays: to look through it for every file would take minutes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _left_open() -> Iterator[None]:
    yield
    gc.collect()
