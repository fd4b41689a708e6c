"""How far a token reaches, as a person types it: `team/*:pull,push`."""

import re

import click

from entrepot.model.rights import SCOPE_WORDS

_SCOPE = re.compile(r"(?P<pattern>[a-z0-9._/*-]+)(?::(?P<actions>[a-z,]+))?")


def read_scopes(scopes: tuple[str, ...]) -> tuple[tuple[str, ...] | None, frozenset[str] | None]:
    """Patterns and actions; the actions of all scopes must agree, since a token has one set."""
    if not scopes:
        return None, None
    patterns: list[str] = []
    actions: set[frozenset[str] | None] = set()
    for scope in scopes:
        match = _SCOPE.fullmatch(scope)
        if match is None:
            raise click.BadParameter(
                f"{scope} is not PATTERN or PATTERN:ACTIONS; a pattern has small letters, digits"
                " and . _ / - *"
            )
        patterns.append(match["pattern"])
        named = frozenset(match["actions"].split(",")) if match["actions"] else None
        if named is not None and not named <= set(SCOPE_WORDS):
            raise click.BadParameter(f"{scope}: actions are {', '.join(SCOPE_WORDS)}")
        actions.add(named)
    if len(actions) > 1:
        raise click.BadParameter("all scopes of a token must name the same actions")
    return tuple(patterns), actions.pop()
