"""What ties an answer to its lines in the log."""

import itertools
import re
import secrets

from entrepot.web.requests import Request

_GIVEN = re.compile(r"[\w.:+/=-]{1,128}", re.ASCII)


class RequestIds:
    """Names requests: as the proxy in front does, or with a number of this process."""

    def __init__(self) -> None:
        self._process_id = secrets.token_hex(4)
        self._counter = itertools.count(1)

    def of(self, request: Request) -> str:
        """The name of a request."""
        given = request.header(b"x-request-id")
        if given is not None and _GIVEN.fullmatch(given):
            return given
        return f"{self._process_id}-{next(self._counter):x}"
