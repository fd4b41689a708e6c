"""How long a tag lives where its push says so, such as `2d` or `1h30m`."""

import json
import re

from entrepot.model.clock import DAY, HOUR, MINUTE, SECOND
from entrepot.model.errors import ManifestInvalid
from entrepot.model.retention import MOST_DAYS

ANNOTATION = "org.entrepot.max-age"
HEADER = "Entrepot-Max-Age"
_FORM = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_UNITS = (DAY, HOUR, MINUTE, SECOND)


def find_max_age(header: str | None, annotations: str | None) -> int | None:
    """What a push says of its tags, in µs: in its header, else in the annotations of its manifest.

    Raises ManifestInvalid for what is no length of time.
    """
    if header is not None:
        return _parse(header, f"the header {HEADER}")
    if annotations is None or ANNOTATION not in annotations:
        return None
    said = json.loads(annotations).get(ANNOTATION)
    return None if said is None else _parse(said, f"the annotation {ANNOTATION}")


def _parse(text: str, where: str) -> int:
    match = _FORM.fullmatch(text.strip())
    length = 0
    if match is not None:
        length = sum(
            int(part or 0) * unit for part, unit in zip(match.groups(), _UNITS, strict=True)
        )
    if not 0 < length <= MOST_DAYS * DAY:
        message = (
            f"{where} says how long a tag lives, such as 90s, 30m, 1h30m or 2d, at most "
            f"{MOST_DAYS}d; it is {text[:40]!r}"
        )
        raise ManifestInvalid(message)
    return length
