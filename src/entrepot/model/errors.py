"""Everything that can go wrong, named for what went wrong.

The message is one sentence for the caller; keyword values go to the log and, where the protocol has
a place for them, into the answer's `detail`. Surfaces map these to their wire in one table each.
"""


class EntrepotError(Exception):
    """The root of all our errors."""

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message)
        self.message = message
        self.values = values


# What the caller sent.


class NameInvalid(EntrepotError):
    """A repository name outside the grammar."""


class TagInvalid(EntrepotError):
    """A tag outside the grammar."""


class DigestInvalid(EntrepotError):
    """A digest that is malformed, of an unknown algorithm, or not the digest of the bytes."""


class ManifestInvalid(EntrepotError):
    """A manifest that cannot be read in exactly one way, or is over a limit."""


class ManifestTooLarge(EntrepotError):
    """A manifest over the size limit."""


class ManifestBlobUnknown(EntrepotError):
    """A manifest that names content this repository does not have."""


class SizeInvalid(EntrepotError):
    """A body shorter or longer than announced."""


class UploadInvalid(EntrepotError):
    """An upload that can only be finished or begun anew."""


class RangeInvalid(EntrepotError):
    """A chunk that does not start where the upload ends, or a range outside the content."""


class FieldInvalid(EntrepotError):
    """A field of a request that has a wrong value; `field` names it."""


class TooManyTags(EntrepotError):
    """More tags in one request than we take."""


class RequestInvalid(EntrepotError):
    """A query, header or form field that cannot be read."""


class PasswordInvalid(EntrepotError):
    """A password that nobody may choose: too short, too long, or its user's name."""


class RequestTooLarge(EntrepotError):
    """Headers or a form over the size limit."""


class RequestTimedOut(EntrepotError):
    """A body that stopped arriving."""


class ClientGone(EntrepotError):
    """The client closed the connection before its request had arrived whole."""


class TooManyRequests(EntrepotError):
    """A limit on what one credential may have open, or on guesses; `retry_after` is in seconds."""


# What is not there.


class NotFound(EntrepotError):
    """No such organisation, project, user or token, or none that the caller may see."""


class NameUnknown(EntrepotError):
    """No such repository, or none that the caller may see."""


class ManifestUnknown(EntrepotError):
    """No such manifest or tag in this repository."""


class BlobUnknown(EntrepotError):
    """No such blob in this repository."""


class UploadUnknown(EntrepotError):
    """No such upload session here for this caller."""


# What is not allowed.


class Unauthenticated(EntrepotError):
    """No credential, a wrong one, or a bearer token that does not cover the request."""


class Denied(EntrepotError):
    """A known caller without the right."""


class Taken(EntrepotError):
    """A name or id that something else has; `field` names it."""


class Stale(EntrepotError):
    """A change to something that changed since the caller read it."""


class Unsupported(EntrepotError):
    """An operation that is switched off or would break something that is kept."""


# What an upstream registry did. The message names it, and says what an administrator can do.


class UpstreamError(EntrepotError):
    """An upstream registry did not give what was asked of it."""


class UpstreamMissing(UpstreamError):
    """The upstream says that there is no such thing (404)."""


class UpstreamForbidden(UpstreamError):
    """The upstream knows us, and says that this does not exist or is not for us (401, 403)."""


class UpstreamRefused(UpstreamError):
    """The upstream refuses the credential itself, or there is none that it would take."""


class UpstreamBusy(UpstreamError):
    """The upstream has us wait (429), or its budget is spent; `retry_after` is in seconds."""


class UpstreamDown(UpstreamError):
    """The upstream cannot be reached, or fails (5xx)."""


class UpstreamSlow(UpstreamDown):
    """The upstream did not answer in time, or stopped sending."""


class UpstreamBroken(UpstreamError):
    """The upstream sent what it must not: wrong bytes, another type, a redirect astray."""


class UpstreamLoop(UpstreamError):
    """An upstream that leads back: this registry's own question came in again."""


class UpstreamUnsafe(UpstreamError):
    """An address that this server must not reach, or a realm that is not the upstream's."""


# What failed here.


class StorageFull(EntrepotError):
    """Not enough space for a push."""


class StorageFailed(EntrepotError):
    """The disk or object store refused a read or write."""


class Unavailable(EntrepotError):
    """The database or store does not answer now; trying again is safe."""


class Conflict(EntrepotError):
    """Another change came first; trying again is safe."""


class ObjectMissing(EntrepotError):
    """A stored object that is not where its row says."""


class SealBroken(EntrepotError):
    """A stored secret that was changed, cut, or copied into another row."""


class SealKeyMissing(EntrepotError):
    """A stored secret that was sealed with a key this server does not have."""


# What the operator got wrong.


class SettingsInvalid(EntrepotError):
    """A setting that is unknown, unreadable or unsafe."""


class StartRefused(EntrepotError):
    """The server cannot or must not start like this."""
