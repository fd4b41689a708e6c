"""Scopes of the token service (distribution, "Token Scope Documentation")."""

import re
from dataclasses import dataclass

from entrepot.model.errors import RequestInvalid

SCOPE_LIMIT = 64
_TYPE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]+\))?")
_ACTION = re.compile(r"[a-z0-9_*]{1,64}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a client asks for: `repository:team/app:pull,push`."""

    type: str
    name: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(sorted(self.actions))}"


def parse_scopes(values: list[str]) -> list[Scope]:
    """Read scopes that came as several parameters, as one list parted by spaces, or both.

    The name may hold colons (a port), so the type ends at the first and the actions begin after the
    last. A class, as in `repository(plugin)`, is dropped. What cannot be read is no error, it
    grants nothing. Raises RequestInvalid when there are more than SCOPE_LIMIT.
    """
    texts = [text for value in values for text in value.split(" ", SCOPE_LIMIT + 1) if text]
    if len(texts) > SCOPE_LIMIT:
        message = f"a token covers at most {SCOPE_LIMIT} scopes"
        raise RequestInvalid(message)
    return [scope for text in texts if (scope := _parse(text)) is not None]


def _parse(text: str) -> Scope | None:
    type_text, _, rest = text.partition(":")
    name, _, action_text = rest.rpartition(":")
    type_match = _TYPE.fullmatch(type_text)
    actions = action_text.split(",")
    if type_match is None or not name or len(name) > 1_024:  # noqa: PLR2004
        return None
    if not all(_ACTION.fullmatch(action) for action in actions):
        return None
    return Scope(type_match[1], name, frozenset(actions))
