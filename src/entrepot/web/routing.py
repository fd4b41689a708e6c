"""Routes as data: a template, and for each method the action it needs and the handler.

Names have slashes and may hold any word of the protocol (`a/blobs/b`), so paths are read from the
right: the last fixed words of a template decide.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from entrepot.model.access import Action

H = TypeVar("H")
# What can be judged without a repository.
_NAMELESS = frozenset({Action.PUBLIC, Action.LOGIN, Action.CATALOG})
_REMEMBERED = 4_096  # paths whose match is kept: the same ones are pulled again and again
_LONGEST = 512  # a path of ours: a name of 255, a sha512 digest, and what is between


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[H]):
    """What one method of a route does; with `is_finishing` a while longer than its right."""

    action: Action
    handler: H
    is_finishing: bool = False


@dataclass(frozen=True, slots=True)
class Route(Generic[H]):
    """A path template such as `/v2/{name}/tags/list`, with its methods."""

    template: str
    methods: Mapping[str, Endpoint[H]]


class Router(Generic[H]):
    """Finds the route of a path. Every endpoint must declare its action."""

    def __init__(self, routes: tuple[Route[H], ...]) -> None:
        self._patterns = [(_compile(route.template), route) for route in routes]
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._find)
        for route in routes:
            for method, endpoint in route.methods.items():
                if not isinstance(endpoint.action, Action):
                    message = f"{method} {route.template} declares no action"
                    raise TypeError(message)
                if "{name}" not in route.template and endpoint.action not in _NAMELESS:
                    message = f"{method} {route.template} names no repository to judge"
                    raise TypeError(message)

    def find(self, path: str) -> tuple[Route[H], Mapping[str, str]] | None:
        """The first route that matches, with the values of its template."""
        return self._remembered(path) if len(path) <= _LONGEST else self._find(path)

    def _find(self, path: str) -> tuple[Route[H], Mapping[str, str]] | None:
        for pattern, route in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return route, match.groupdict()
        return None


def _compile(template: str) -> re.Pattern[str]:
    """`{name}` takes slashes, any other value none; a trailing slash in brackets is optional."""
    text = re.escape(template).replace(r"\[/\]", "/?")
    text = text.replace(r"\{name\}", "(?P<name>.+)")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]*)", text))
