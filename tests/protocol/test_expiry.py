"""A right that expires while a push runs: what was begun may be finished, for an hour."""

import base64
import json

import pytest

from entrepot.model.clock import HOUR, MINUTE, SystemClock
from tests.protocol.wire import send
from tests.support.server import OCI_MANIFEST, Client, basic, digest_of

CONTENT = b"finished later"


@pytest.fixture
def begun(closed, name):
    """An upload that a token opened; the token and the location."""
    token = closed.new_token("org")
    client = Client(closed.server, token=token)
    image = json.dumps(client.make_image(name)).encode()
    location = client.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    client.close()
    return token, location, image


def later(token):
    """The same credential spelled anew: the server remembers the first one for 5 seconds."""
    pair = base64.b64encode(f"later:{token}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


def expire(registry, token, ago):
    """Move the end of a token into the past, and its uploads before it."""
    from entrepot.identity.tokens import hash_token

    end = SystemClock().now() - ago
    registry.change(
        "UPDATE tokens SET expires_at = :end WHERE hash = :hash", end=end, hash=hash_token(token)
    )
    registry.change(
        """
        UPDATE uploads
           SET created_at = :before
         WHERE token_id = (SELECT id FROM tokens WHERE hash = :hash)
        """,
        before=end - MINUTE,
        hash=hash_token(token),
    )


def finish(registry, token, location, name, image):
    """PATCH, PUT and the manifest: their statuses."""
    headers = later(token)
    digest = digest_of(CONTENT)
    return [
        send(registry.server, "GET", location, headers).status,
        send(registry.server, "PATCH", location, headers, CONTENT).status,
        send(registry.server, "PUT", f"{location}?digest={digest}", headers, b"").status,
        send(
            registry.server,
            "PUT",
            f"/v2/{name}/manifests/v1",
            {**headers, "Content-Type": OCI_MANIFEST},
            image,
        ).status,
    ]


def test_what_was_begun_in_time_is_finished_within_the_hour(closed, begun, name):
    token, location, image = begun
    expire(closed, token, 10 * MINUTE)

    assert finish(closed, token, location, name, image) == [204, 202, 201, 201]


def test_nothing_new_is_begun_after_the_end(closed, begun, name):
    token, _, image = begun
    expire(closed, token, 10 * MINUTE)
    headers = later(token)

    assert send(closed.server, "POST", f"/v2/{name}/blobs/uploads/", headers, b"").status == 401
    assert send(closed.server, "GET", f"/v2/{name}/manifests/v1", headers).status == 401
    elsewhere = {**headers, "Content-Type": OCI_MANIFEST}
    other = send(closed.server, "PUT", f"/v2/{name}-other/manifests/v1", elsewhere, image)
    assert other.status == 401


def test_after_the_hour_nothing_is_finished(closed, begun, name):
    token, location, image = begun
    expire(closed, token, HOUR + MINUTE)

    assert finish(closed, token, location, name, image) == [401] * 4


def test_after_a_revocation_nothing_is_finished(closed, begun, name):
    token, location, image = begun
    expire(closed, token, 10 * MINUTE)
    closed.revoke(token)

    statuses = finish(closed, token, location, name, image)

    assert statuses[2:] == [401, 401]
    blob = f"/v2/{name}/blobs/{digest_of(CONTENT)}"
    assert send(closed.server, "HEAD", blob, basic(closed.server.token)).status == 404


def test_an_upload_opened_after_the_end_cannot_be_finished(closed, begun, name):
    token, location, image = begun
    expire(closed, token, 10 * MINUTE)
    closed.change(
        "UPDATE uploads SET created_at = :now WHERE id = :id",
        now=SystemClock().now(),
        id=location.rpartition("/")[2],
    )

    # The manifest may still come: it rests on the blobs that came in time.
    assert finish(closed, token, location, name, image) == [404, 404, 404, 201]
