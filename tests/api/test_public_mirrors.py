"""Public mirrors: Docker sends no credential to a mirror, so that it needs one open to everybody."""

import httpx
import pytest

from tests.api.test_namespace_mirrors import admin, base, hub, pull, repositories, slug, upstream
from tests.api.test_pull_through import refused

__all__ = ["admin", "base", "hub", "pull", "slug", "upstream"]


@pytest.fixture
def nobody(registry, slug):
    """Pull as a client without a credential does: with the bearer token that anybody gets."""

    def get(name, reference="7"):
        host = {"host": f"{slug}.{registry.public_host}"}
        token = httpx.get(
            f"{registry.url}/v2/token",
            params={"service": registry.public_host, "scope": f"repository:{name}:pull"},
            headers=host,
        )
        assert token.status_code == 200, token.text
        return httpx.get(
            f"{registry.url}/v2/{name}/manifests/{reference}",
            headers=host | {"authorization": f"Bearer {token.json()['token']}"},
        )

    return get


def test_everybody_pulls_through_a_public_mirror(people, slug, admin, base, hub, nobody):
    mirror = admin.made(base, {"prefix": "hub", "upstream": "hub", "is_public": True})

    first, again, missing = nobody("hub/redis"), nobody("hub/redis"), nobody("hub/none")

    assert mirror["is_public"] is True
    assert (first.status_code, again.status_code, missing.status_code) == (200, 200, 404)
    (made,) = admin.items(f"/organisations/{slug}/repositories")
    assert (made["path"], made["is_public"]) == ("hub/redis", True)
    assert hub.log.count(kind="manifest", method="GET", name="library/redis") == 1
    (event,) = people.audit(slug, action="repository.created")
    assert event["details"]["by"] == "pull"


def test_nobody_pulls_through_a_private_one(admin, slug, base, hub, nobody):
    admin.made(base, {"prefix": "hub", "upstream": "hub"})

    assert nobody("hub/redis").status_code == 401
    assert repositories(admin, slug) == {}
    assert hub.log.count(kind="manifest") == 0


def test_nothing_is_pushed_below_a_public_one(registry, slug, admin, base, hub):
    del hub
    admin.made(base, {"prefix": "hub", "upstream": "hub", "is_public": True})
    host = {"host": f"{slug}.{registry.public_host}"}

    answer = httpx.post(f"{registry.url}/v2/hub/redis/blobs/uploads/", headers=host)

    assert answer.status_code == 401


def test_what_it_lets_nobody_have_stays_closed(admin, slug, base, hub, nobody):
    del hub
    body = {"prefix": "hub", "upstream": "hub", "is_public": True, "allow": ["library/**"]}
    admin.made(base, body)

    assert nobody("hub/team/app", "1").status_code == 401
    assert repositories(admin, slug) == {}


def test_a_change_is_for_what_was_not_pulled_yet(admin, base, hub, nobody, pull):
    del hub
    mirror = admin.made(base, {"prefix": "hub", "upstream": "hub"})
    assert pull("hub/redis").status_code == 200

    changed = admin.patch(f"/mirrors/{mirror['id']}", {"is_public": True})

    assert changed.json()["is_public"] is True, changed.text
    assert nobody("hub/redis").status_code == 401
    assert nobody("hub/team/app", "1").status_code == 200


def test_an_organisation_without_public_repositories_has_no_public_mirror(
    people, slug, admin, base, hub, nobody
):
    del hub
    mirror = admin.made(base, {"prefix": "hub", "upstream": "hub", "is_public": True})
    owner = people.member(slug, "owner")
    closed = owner.patch(f"/organisations/{slug}", {"allows_public": False})
    assert closed.status_code == 200, closed.text

    assert nobody("hub/redis").status_code == 401
    body = {"prefix": "b", "upstream": "hub", "is_public": True}
    assert "allows no public" in refused(admin.post(base, body), 403)
    refused(admin.patch(f"/mirrors/{mirror['id']}", {"is_public": True}), 403)
