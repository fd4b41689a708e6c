"""From our errors to the protocol's codes and bodies (distribution-spec, "Error Codes")."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from entrepot.model import errors
from entrepot.model.errors import EntrepotError
from entrepot.oci.content import GUARDS
from entrepot.web.answers import Answer, Header


class Code(StrEnum):
    """The codes that clients branch on."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    # Not in the OCI list, used by the reference implementation and read by clients.
    TAG_INVALID = "TAG_INVALID"
    UNKNOWN = "UNKNOWN"
    UNAVAILABLE = "UNAVAILABLE"


# What is not in the caller's hands says so with a 5xx, and never with 401 or 404.
ON_THE_WIRE: Mapping[type[EntrepotError], tuple[int, Code]] = {
    errors.NameInvalid: (400, Code.NAME_INVALID),
    errors.TagInvalid: (400, Code.TAG_INVALID),
    errors.DigestInvalid: (400, Code.DIGEST_INVALID),
    errors.ManifestInvalid: (400, Code.MANIFEST_INVALID),
    errors.ManifestTooLarge: (413, Code.MANIFEST_INVALID),
    errors.ManifestBlobUnknown: (400, Code.MANIFEST_BLOB_UNKNOWN),
    errors.SizeInvalid: (400, Code.SIZE_INVALID),
    errors.UploadInvalid: (400, Code.BLOB_UPLOAD_INVALID),
    errors.RangeInvalid: (416, Code.BLOB_UPLOAD_INVALID),
    errors.FieldInvalid: (400, Code.UNSUPPORTED),
    errors.TooManyTags: (414, Code.TAG_INVALID),
    errors.RequestInvalid: (400, Code.UNSUPPORTED),
    errors.PasswordInvalid: (400, Code.UNSUPPORTED),
    errors.RequestTooLarge: (413, Code.SIZE_INVALID),
    errors.RequestTimedOut: (408, Code.BLOB_UPLOAD_INVALID),
    errors.ClientGone: (499, Code.UNKNOWN),
    errors.TooManyRequests: (429, Code.TOOMANYREQUESTS),
    errors.NotFound: (404, Code.NAME_UNKNOWN),
    errors.NameUnknown: (404, Code.NAME_UNKNOWN),
    errors.ManifestUnknown: (404, Code.MANIFEST_UNKNOWN),
    errors.BlobUnknown: (404, Code.BLOB_UNKNOWN),
    errors.UploadUnknown: (404, Code.BLOB_UPLOAD_UNKNOWN),
    errors.Unauthenticated: (401, Code.UNAUTHORIZED),
    errors.Denied: (403, Code.DENIED),
    errors.Taken: (409, Code.DENIED),
    errors.Stale: (412, Code.DENIED),
    errors.Unsupported: (405, Code.UNSUPPORTED),
    errors.UpstreamError: (502, Code.UNAVAILABLE),
    errors.UpstreamMissing: (404, Code.MANIFEST_UNKNOWN),
    errors.UpstreamForbidden: (403, Code.DENIED),
    errors.UpstreamRefused: (502, Code.UNAVAILABLE),
    errors.UpstreamBusy: (429, Code.TOOMANYREQUESTS),
    errors.UpstreamDown: (502, Code.UNAVAILABLE),
    errors.UpstreamSlow: (504, Code.UNAVAILABLE),
    errors.UpstreamBroken: (502, Code.UNAVAILABLE),
    errors.UpstreamUnsafe: (502, Code.UNAVAILABLE),
    errors.UpstreamLoop: (508, Code.UNAVAILABLE),
    errors.StorageFull: (507, Code.UNAVAILABLE),
    errors.StorageFailed: (503, Code.UNAVAILABLE),
    errors.Unavailable: (503, Code.UNAVAILABLE),
    errors.Conflict: (503, Code.UNAVAILABLE),
    errors.ObjectMissing: (503, Code.UNAVAILABLE),
    errors.SealBroken: (503, Code.UNAVAILABLE),
    errors.SealKeyMissing: (503, Code.UNAVAILABLE),
    # Of an operator's start, never of a request.
    errors.SettingsInvalid: (500, Code.UNKNOWN),
    errors.StartRefused: (500, Code.UNKNOWN),
}

_RETRY_SECONDS: Mapping[int, int] = {429: 30, 503: 2, 507: 60}
# podman, skopeo and CRI-O wait four times for as long as they are told, a minute at most, before
# they show the sentence or go on to the next mirror; containerd and docker do not wait. While an
# upstream has us wait, a question to us costs it nothing: the sentence alone says the whole time.
_UPSTREAM_RETRY_SECONDS = 10
_JSON: Header = (b"content-type", b"application/json")
# Values that help a caller; all others are for the log alone.
_DETAIL = frozenset(
    {
        *("missing", "free", "low_water", "limit", "size", "digest", "name", "tag"),
        *("quota", "used", "needed"),
    }
)

_encode = msgspec.json.Encoder().encode


def wire_of(error: EntrepotError) -> tuple[int, Code]:
    """The status and code of an error, or of the nearest kind of error that has one."""
    for kind in type(error).__mro__:
        if kind in ON_THE_WIRE:
            return ON_THE_WIRE[kind]
    return 500, Code.UNKNOWN


def answer_error(error: EntrepotError, headers: list[Header]) -> Answer:
    """The answer that tells a caller what went wrong; `headers` are added to it."""
    status, code = wire_of(error)
    if isinstance(error, errors.RequestTooLarge) and isinstance(
        named := error.values.get("status"), int
    ):
        status = named  # one error, two statuses: headers that are too large are 431, bodies 413
    detail = {key: value for key, value in error.values.items() if key in _DETAIL}
    body = _encode({"errors": [{"code": code, "message": error.message, "detail": detail}]})
    answer = Answer(status, [_JSON, *GUARDS, *headers], body)
    if status in _RETRY_SECONDS:
        seconds = error.values.get("retry_after")
        if not isinstance(seconds, int):
            seconds = _RETRY_SECONDS[status]
        if isinstance(error, errors.UpstreamBusy):
            seconds = min(seconds, _UPSTREAM_RETRY_SECONDS)
        answer.headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(content_range := error.values.get("content_range"), str):
        answer.headers.append((b"content-range", content_range.encode()))
    return answer
