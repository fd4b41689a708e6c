"""Logs: one line per thing that happened, on standard error, without secrets."""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "console", "json"]

# Request id, tenant and actor of the request at hand. A dict of its own per request, so that
# authentication can add to it what the surface began.
context: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)

_HIDDEN = "[hidden]"
_SECRETS = re.compile(
    r"(?P<token>\bentrepot_[a-z]+_)[\w-]{20,}"  # ours; the kind may be seen
    r"|\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"  # a JWT
    r"|(?P<header>\bauthorization\W{1,8}(?:b\W)?(?:(?:basic|bearer)\s+)?)[^\s\"',;)}\]]+"
    r"|(?P<scheme>\b(?:basic|bearer)\s+)[\w+/=.~-]{8,}"
    r"|(?P<url>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)",  # a password in an address
    re.IGNORECASE,
)


def configure(level: str = "info", form: Format = "auto") -> None:
    """Set up this process: our lines and those of libraries, in one form."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        _add_context,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The default prints local variables, which hold what must not be printed.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        # Lines below the level cost one call, not a dict.
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendered,
                _mask_line,
            ],
        )
    )
    logging.raiseExceptions = False  # it would show the line that failed, unmasked
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries tell at "info" what only their authors want to know.
    root.setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.getLogger("entrepot").setLevel(level.upper())


def mask(text: str) -> str:
    """`text` with everything that looks like a credential hidden."""
    return _SECRETS.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    return next((kept for kept in match.groups() if kept), "") + _HIDDEN


def _add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if found := context.get():
        return {**found, **event}
    return event


# The last step sees the whole line: exceptions, reprs and what libraries say included.
def _mask_line(_logger: WrappedLogger, _method: str, line: Any) -> str:  # noqa: ANN401  # structlog's
    return mask(str(line))
