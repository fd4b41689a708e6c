"""From our errors to problem documents (RFC 9457)."""

from collections.abc import Mapping

from pydantic import BaseModel, Field

from entrepot.model import errors
from entrepot.model.errors import EntrepotError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:entrepot:problem:"


class FieldProblem(BaseModel):
    """What is wrong with one field: its path, such as `retention.days`."""

    field: str = Field(description="its name; the body itself has none")
    message: str = Field(description="what is wrong with it")


class Problem(BaseModel):
    """What went wrong, for programs (`type`, `status`) and for people (`detail`)."""

    type: str = Field(
        description=f"`{TYPE_PREFIX}` and a name that does not change",
        pattern=f"^{TYPE_PREFIX}[a-z-]+$",
    )
    title: str = Field(description="the name in words")
    status: int = Field(description="the status of the answer")
    detail: str = Field(description="one sentence: what went wrong and what to do")
    request_id: str = Field(description="ties the answer to its lines in the log")
    errors: list[FieldProblem] = Field(default=[], description="the fields at fault, if any")


# Status and name of each error that a request of the management API can meet; any other is a 500.
PROBLEMS: Mapping[type[EntrepotError], tuple[int, str]] = {
    errors.NameInvalid: (422, "name-invalid"),
    errors.TagInvalid: (422, "tag-invalid"),
    errors.DigestInvalid: (422, "digest-invalid"),
    errors.FieldInvalid: (422, "field-invalid"),
    errors.PasswordInvalid: (422, "password-invalid"),
    errors.RequestInvalid: (400, "request-invalid"),
    errors.RequestTooLarge: (413, "request-too-large"),
    errors.RequestTimedOut: (408, "request-timed-out"),
    errors.SizeInvalid: (400, "request-invalid"),
    errors.TooManyRequests: (429, "too-many-requests"),
    errors.Unauthenticated: (401, "unauthenticated"),
    errors.Denied: (403, "denied"),
    errors.NotFound: (404, "not-found"),
    errors.NameUnknown: (404, "not-found"),
    errors.ManifestUnknown: (404, "not-found"),
    errors.BlobUnknown: (404, "not-found"),
    errors.Unsupported: (409, "in-use"),
    errors.Taken: (409, "taken"),
    errors.Stale: (412, "stale"),
    errors.UpstreamMissing: (422, "upstream-missing"),
    errors.UpstreamForbidden: (422, "upstream-forbidden"),
    errors.UpstreamRefused: (422, "upstream-refused"),
    errors.UpstreamUnsafe: (422, "upstream-unsafe"),
    errors.UpstreamBusy: (429, "upstream-busy"),
    errors.UpstreamBroken: (502, "upstream-broken"),
    errors.UpstreamDown: (502, "upstream-down"),
    errors.UpstreamSlow: (504, "upstream-slow"),
    errors.StorageFull: (507, "storage-full"),
    errors.StorageFailed: (503, "unavailable"),
    errors.Unavailable: (503, "unavailable"),
    errors.Conflict: (503, "unavailable"),
    errors.SealBroken: (503, "sealed"),
    errors.SealKeyMissing: (503, "sealed"),
}
# What is refused before any service is asked.
FRAMEWORK: Mapping[int, str] = {
    400: "request-invalid",
    404: "not-found",
    405: "method-not-allowed",
    415: "media-type-unsupported",
    422: "field-invalid",
    500: "failed",
}
RETRY_SECONDS: Mapping[int, int] = {429: 30, 503: 2, 507: 60}


def problem_of(error: EntrepotError, request_id: str) -> Problem:
    """The document of an error."""
    status, name = PROBLEMS.get(type(error), (500, "failed"))
    field = error.values.get("field")
    return problem(
        status,
        name,
        error.message,
        request_id,
        [FieldProblem(field=field, message=error.message)] if isinstance(field, str) else [],
    )


def problem(
    status: int, name: str, detail: str, request_id: str, fields: list[FieldProblem] | None = None
) -> Problem:
    """A document of ours."""
    return Problem(
        type=f"{TYPE_PREFIX}{name}",
        title=name.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        request_id=request_id,
        errors=fields or [],
    )
