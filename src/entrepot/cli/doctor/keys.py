"""The secret key: whether it can be read, by its owner alone, and is the one of the database."""

from collections.abc import Iterator

from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings
from entrepot.identity.key_file import refuse_if_open
from entrepot.model.clock import Clock
from entrepot.model.errors import StartRefused
from entrepot.parts import key_ring, own_key_file
from entrepot.services.rotation import refuse_without

_PART = Part("secret key")


def examine(settings: Settings, clock: Clock, recorded: str | None) -> Iterator[Finding]:
    """`recorded` is the id of the key that the database needs, None where that is not known."""
    own = own_key_file(settings)
    if own is not None and not own.exists() and recorded is None:
        yield _PART.warning(
            f"there is no {own}", "put it back from the backup, unless no server ever started here"
        )
        return
    try:
        if own is not None:
            refuse_if_open(own)
        ring = key_ring(settings, clock)
        count = len(ring.keys)
        if recorded is not None:
            refuse_without(recorded, ring)
    except StartRefused as error:
        yield _PART.failed(error, "do that, then start the server anew")
        return
    where = own or settings.secret_key_file or "ENTREPOT_SECRET_KEY"
    more = f" and {count - 1} older" if count > 1 else ""
    known = ", the one of the database" if recorded is not None else ""
    yield _PART.ok(f"{ring.current.id}{more} from {where}{known}")
