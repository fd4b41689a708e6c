"""Waiting for what nothing announces."""

import time
from collections.abc import Callable

REVOKED_WITHIN = 10.0  # seconds until every server refuses what was taken away, as promised

_STEP = 0.05


def eventually(
    is_so: Callable[..., bool],  # `...`: a lambda in a loop binds its names
    *,
    within: float = 30.0,  # more than anything takes, on a busy machine too
    missing: object = "it never became so",
) -> None:
    """Wait until it is so; a failure tells what is still `missing`, or what that answers then."""
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline, missing() if callable(missing) else missing
        time.sleep(_STEP)  # there is no other way to tell
