"""The push sequence of the distribution spec over one connection."""

import urllib.parse
from collections.abc import Callable

from bench.content import MANIFEST_TYPE, Blob, Image
from bench.wire import Answer, Connection


def push_blob(connection: Connection, repository: str, blob: Blob) -> None:
    """POST, PATCH with the file, PUT with the digest."""
    commit_blob(
        connection,
        repository,
        blob.digest,
        lambda target: connection.send_blob("PATCH", target, blob, expect=202),
    )


def push_bytes(connection: Connection, repository: str, digest: str, body: bytes) -> None:
    """POST, PATCH with bytes in memory, PUT with the digest."""
    commit_blob(
        connection,
        repository,
        digest,
        lambda target: connection.request(
            "PATCH", target, body, content_type="application/octet-stream", expect=202
        ),
    )


def commit_blob(
    connection: Connection, repository: str, digest: str, patch: Callable[[str], Answer]
) -> None:
    """Push one blob, its bytes sent by `patch`."""
    upload = start_upload(connection, repository)
    target = location(patch(upload))
    finish_upload(connection, target, digest)


def start_upload(connection: Connection, repository: str) -> str:
    """POST; return where the bytes go."""
    return location(connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202))


def finish_upload(connection: Connection, target: str, digest: str) -> None:
    """PUT with the digest."""
    joint = "&" if "?" in target else "?"
    query = urllib.parse.urlencode({"digest": digest})
    connection.request("PUT", f"{target}{joint}{query}", expect=201)


def push_manifest(connection: Connection, repository: str, tag: str, body: bytes) -> None:
    """PUT a manifest under a tag."""
    target = f"/v2/{repository}/manifests/{tag}"
    connection.request("PUT", target, body, content_type=MANIFEST_TYPE, expect=201)


def push_image(connection: Connection, repository: str, tag: str, image: Image) -> None:
    """Push as clients do: for each blob HEAD, POST, PATCH, PUT; then the manifest."""
    for digest, body in image.blobs:
        connection.request("HEAD", f"/v2/{repository}/blobs/{digest}", expect=404)
        push_bytes(connection, repository, digest, body)
    push_manifest(connection, repository, tag, image.manifest)


def location(answer: Answer) -> str:
    """Return the path and query of an answer's Location, absolute or not."""
    parts = urllib.parse.urlsplit(answer.headers["location"])
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
