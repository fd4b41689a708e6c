"""Trying an object store before anything is trusted to it.

One small object and one of two parts are written, read, hashed, listed and deleted, with what
earlier tests have left that were killed.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import obstore

from entrepot.blobs.objects_faults import REFUSALS, Refusal, read_refusal
from entrepot.blobs.objects_place import Place, Way
from entrepot.model.errors import StartRefused

FOLDER = "self-test"
_PART = 5 * 1024 * 1024
_SMALL = 64 * 1024
# Others may keep something below our prefix, and other nodes start now.
_OURS = re.compile(rf"{FOLDER}/[0-9a-f]{{16}}/(?:one|two|clock)")
_OLD = timedelta(hours=1)

_IDENTITY = "169.254.169.254"  # where a machine in a cloud asks who it is
_KEYS = "blobs.access_key_id and blobs.secret_access_key"
_REMEDIES = {
    "InvalidAccessKeyId": f"it does not know the access key: set {_KEYS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the access key: set {_KEYS}",
    "AuthenticationFailed": f"the account's key is wrong: set {_KEYS}",
    "AuthorizationFailure": f"the account's key is wrong: set {_KEYS}",
    "ExpiredToken": "the credentials have expired: give this machine new ones",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it, and keep it right with NTP",
    "NoSuchBucket": "there is no such bucket: make it, or set blobs.url",
    "ContainerNotFound": "there is no such container: make it, or set blobs.url",
    "PermanentRedirect": "the bucket is elsewhere: set blobs.region, or blobs.endpoint",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set blobs.region",
    "IllegalLocationConstraintException": "the bucket is in another region: set blobs.region",
}


def check(place: Place, sends: Way, asks: Way) -> None:
    """Raises StartRefused with the remedy, unless all is as it has to be."""
    folder = f"{FOLDER}/{secrets.token_hex(8)}"
    contents = {
        f"{folder}/one": secrets.token_bytes(_SMALL),
        f"{folder}/two": secrets.token_bytes(_PART + _SMALL),
    }
    one, two = contents
    with _trying(place, "write an object", "s3:PutObject"):
        obstore.put(sends, one, contents[one], use_multipart=False)
    try:
        with _trying(place, "write an object of two parts", "s3:PutObject"):
            obstore.put(sends, two, iter([contents[two]]), chunk_size=_PART)
        for name, content in contents.items():
            with _trying(place, "read an object", "s3:GetObject"):
                _require_same(place, content, bytes(obstore.get(asks, name).bytes()))
        with _trying(place, "list objects", "s3:ListBucket"):
            pages = obstore.list(asks, folder, offset=f"{folder}/o")
            found = {stored["path"]: stored["size"] for page in pages for stored in page}
            left = _find_left(asks)
        _require_listed(place, contents, found)
    except BaseException:
        with suppress(*REFUSALS):
            _delete(asks, contents)
        raise
    with _trying(place, "delete an object", "s3:DeleteObject"):
        _delete(asks, [*contents, *left])


def _find_left(asks: Way) -> list[str]:
    """What tests have left that were killed long ago."""
    before = datetime.now(UTC) - _OLD
    return [
        stored["path"]
        for page in obstore.list(asks, FOLDER)
        for stored in page
        if _OURS.fullmatch(stored["path"]) and stored["last_modified"] < before
    ]


def _delete(asks: Way, names: Iterable[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            obstore.delete(asks, name)


def _require_listed(place: Place, written: dict[str, bytes], found: dict[str, int]) -> None:
    if found != {name: len(content) for name, content in written.items()}:
        raise _refused(place, "does not list what was just written to it", "use another")


def _require_same(place: Place, written: bytes, read: bytes) -> None:
    if hashlib.sha256(written).digest() != hashlib.sha256(read).digest():
        raise _refused(
            place,
            f"gave back other bytes than were written ({len(written)} bytes, {len(read)} read)",
            "the store, or something before it, alters objects: take it out, or use another",
        )


@contextmanager
def _trying(place: Place, doing: str, permission: str) -> Iterator[None]:
    try:
        yield
    except REFUSALS as error:
        refusal = read_refusal(error)
        verb = "refuses to" if refusal.status else "did not"
        what = f"{verb} {doing} ({refusal.words})"
        raise _refused(place, what, _remedy(place, refusal, permission)) from None


def _remedy(place: Place, refusal: Refusal, permission: str) -> str:
    if _IDENTITY in refusal.words:  # whatever it answered
        keys = "GOOGLE_APPLICATION_CREDENTIALS" if place.scheme == "gs" else _KEYS
        return f"there are no credentials: set {keys}, or give this machine an identity"
    if refusal.code in _REMEDIES:
        return _REMEDIES[refusal.code]
    if refusal.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        needed = f", such as {permission}" if place.scheme == "s3" else ""
        return f"give these credentials the right to do so{needed}"
    if refusal.status == HTTPStatus.NOT_FOUND:
        return "is the bucket there, and blobs.endpoint right?"
    if not refusal.status:
        return "it cannot be reached: is blobs.endpoint right, and does it run?"
    return "look at its log"


def _refused(place: Place, what: str, remedy: str) -> StartRefused:
    return StartRefused(f"the object store {place} {what}; {remedy}")
