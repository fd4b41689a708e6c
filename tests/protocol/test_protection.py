"""What a pusher relies on is kept for a while: who asks whether it is there renews that."""

import pytest

from entrepot.model.clock import HOUR, SystemClock
from tests.protocol.wire import send


@pytest.fixture
def rows(registry, client, name):
    """Push an image; the protection of its blob and manifest, and how to shorten both."""
    client.push_image(name, "v1")
    manifest = client.request("HEAD", f"/v2/{name}/manifests/v1").headers["docker-content-digest"]
    blob = client.request("GET", f"/v2/{name}/manifests/v1").json()["layers"][0]["digest"]
    path = f"main/{name}".removeprefix("main/")
    repository = registry.rows("SELECT id FROM repositories WHERE path = :path", path=path)[0][0]
    tables = {"blob_links": blob, "manifests": manifest}

    def ends():
        return [
            registry.rows(
                f"SELECT protected_until FROM {table} WHERE repository_id = :id AND digest = :d",
                id=repository,
                d=digest,
            )[0][0]
            for table, digest in tables.items()
        ]

    def shorten(end):
        for table, digest in tables.items():
            registry.change(
                f"""
                UPDATE {table}
                   SET protected_until = :end
                 WHERE repository_id = :id
                   AND digest = :d
                """,
                end=end,
                id=repository,
                d=digest,
            )

    return [f"/v2/{name}/blobs/{blob}", f"/v2/{name}/manifests/{manifest}"], ends, shorten


def test_what_was_pushed_is_protected_for_a_day(rows):
    _, ends, _ = rows

    for end in ends():
        assert end > SystemClock().now() + 23 * HOUR


def test_a_head_by_who_may_push_renews(registry, client, rows, name):
    paths, ends, shorten = rows
    shorten(SystemClock().now() + HOUR)
    # A bearer token to push, as a pusher has it.
    client.request("POST", f"/v2/{name}/blobs/uploads/")

    for path in paths:
        assert client.request("HEAD", path).status_code == 200

    for end in ends():
        assert end > SystemClock().now() + 23 * HOUR


def test_a_head_renews_at_most_once_per_half_of_it(client, rows, name):
    paths, ends, shorten = rows
    client.request("POST", f"/v2/{name}/blobs/uploads/")
    end = SystemClock().now() + 13 * HOUR
    shorten(end)

    for path in paths:
        client.request("HEAD", path)

    assert ends() == [end, end]


def test_reading_renews_nothing(registry, client, rows):
    paths, ends, shorten = rows
    end = SystemClock().now() + HOUR
    shorten(end)

    for path in paths:
        assert client.request("GET", path).status_code == 200

    assert ends() == [end, end]


def test_a_head_by_who_may_only_pull_renews_nothing(closed, owner, name):
    owner.push_image(name, "v1")
    blob = owner.request("GET", f"/v2/{name}/manifests/v1").json()["layers"][0]["digest"]
    end = SystemClock().now() + HOUR
    closed.change("UPDATE blob_links SET protected_until = :end WHERE digest = :d", end=end, d=blob)
    pull = closed.bearer(owner.token, f"repository:{name}:pull")

    answer = send(closed.server, "HEAD", f"/v2/{name}/blobs/{blob}", pull)

    assert answer.status == 200
    rows = closed.rows("SELECT protected_until FROM blob_links WHERE digest = :d", d=blob)
    assert rows == [(end,)]
