"""What a caller may not see, and a token that ends. Everybody on every route: tests/access."""

import json

from tests.protocol.wire import send
from tests.support.eventually import REVOKED_WITHIN, eventually
from tests.support.server import Client, basic, digest_of


def test_a_forbidden_repository_looks_like_no_organisation(closed, owner, slug):
    closed.new_organisation(slug)
    closed.new_organisation(f"{slug}-other")
    owner.push_image("private", "v1")
    stranger = basic(closed.new_token("org", f"{slug}-other"))

    for path in ("tags/list", "manifests/v1", f"blobs/{digest_of(b'x')}"):
        bodies = {
            send(closed.server, "GET", f"/v2/{name}/{path}", stranger).body.replace(
                name.encode(), b"NAME"
            )
            for name in ("private", f"{slug}/app", "no-such-organisation/app", "main/app")
        }
        assert len(bodies) == 1
        assert json.loads(bodies.pop())["errors"][0]["code"] == "NAME_UNKNOWN"


def test_a_token_revoked_stops_working(closed, name):
    token = closed.new_token("org")
    client = Client(closed.server, token=token)
    client.push_image(name, "v1")
    bearer = closed.bearer(token, f"repository:{name}:pull,push")
    closed.revoke(token)

    for headers in (basic(token), bearer):
        # Reads may rest on an answer of the last seconds, writes never.
        push = send(closed.server, "POST", f"/v2/{name}/blobs/uploads/", headers, b"")
        assert push.status == 401
        eventually(
            lambda headers=headers: (
                send(closed.server, "GET", f"/v2/{name}/tags/list", headers).status == 401
            ),
            within=REVOKED_WITHIN,
        )
    client.close()
