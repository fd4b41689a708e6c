"""How far another clock is from this machine's."""

from entrepot.cli.doctor.finding import Finding, Part
from entrepot.model.clock import SECOND

_PART = Part("clock")
_NOTICED, _TOO_MUCH = 2 * SECOND, 60 * SECOND
_REMEDY = "let both machines follow NTP; `timedatectl` shows whether they do"


def skew(whose: str, theirs: int, before: int, after: int) -> Finding:
    """How far a clock that was read between two looks at ours is from it, at least."""
    distance = max(before - theirs, theirs - after, 0)
    told = f"{distance / SECOND:.1f} s {'behind' if theirs < before else 'ahead of'} ours"
    if distance > _TOO_MUCH:
        return _PART.error(f"the clock of {whose} is {told}", _REMEDY)
    if distance > _NOTICED:
        return _PART.warning(f"the clock of {whose} is {told}", _REMEDY)
    return _PART.ok(f"the clock of {whose} tells our time")
