"""Ids of work that runs again: the nth that it draws is the same each time.

So a row that is appended is recognised when the first time had happened after all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from entrepot.model.ids import new_id

_drawing: ContextVar[Iterator[int] | None] = ContextVar("_drawing", default=None)


@contextmanager
def drawing(drawn: list[int]) -> Iterator[None]:
    """Inside, `repeatable_id` answers these ids first, and appends what it makes then."""
    token = _drawing.set(_replay(drawn))
    try:
        yield
    finally:
        _drawing.reset(token)


def repeatable_id() -> int:
    """A row id: the same again when the work that it is drawn in runs again."""
    ids = _drawing.get()
    return next(ids) if ids is not None else new_id()


def _replay(drawn: list[int]) -> Iterator[int]:
    yield from list(drawn)
    while True:
        drawn.append(new_id())
        yield drawn[-1]
