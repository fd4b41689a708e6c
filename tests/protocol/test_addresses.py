"""Every form of address leads to the same repositories, and to no one else's."""

import secrets

import pytest

from tests.protocol.documents import code_of
from tests.protocol.wire import send
from tests.support.server import Client, basic


@pytest.fixture
def tenant(closed, slug):
    """An organisation of the test's own, its slug, public id and a token."""
    closed.new_organisation(slug)
    public_id = closed.rows("SELECT public_id FROM organisations WHERE slug = :slug", slug=slug)
    return slug, public_id[0][0], closed.new_token("org", slug)


def get(registry, path, token, host=None):
    headers = basic(token) | ({"Host": host} if host else {})
    return send(registry.server, "GET", path, headers)


def test_an_organisation_is_found_by_path_and_by_sub_domain_by_slug_and_by_id(closed, tenant):
    slug, public_id, token = tenant
    client = Client(closed.server, token=token)
    digest = client.push_image(f"{slug}/team/app", "v1")

    for path, host in (
        (f"{slug}/team/app", None),
        (f"{public_id}/team/app", None),
        ("team/app", f"{slug}.{closed.public_host}"),
        ("team/app", f"{public_id}.{closed.public_host}"),
        ("team/app", f"{slug}.{closed.public_host}".upper()),
        (f"{slug}/team/app", closed.public_host),
    ):
        answer = get(closed, f"/v2/{path}/manifests/v1", token, host)

        assert answer.status == 200, (path, host)
        assert answer.headers["docker-content-digest"] == digest
    client.close()


def test_a_push_by_sub_domain_answers_with_paths_of_that_host(closed, tenant):
    slug, _, token = tenant
    host = {"host": f"{slug}.{closed.public_host}"}
    client = Client(closed.server, token=token)

    begun = client.request("POST", "/v2/app/blobs/uploads/", headers=host)

    assert begun.headers["location"].startswith("/v2/app/blobs/uploads/")
    assert client.request("GET", begun.headers["location"], headers=host).status_code == 204
    by_path = begun.headers["location"].replace("/v2/app", f"/v2/{slug}/app")
    assert client.request("GET", by_path).status_code == 204
    client.close()


def test_names_without_an_organisation_are_of_the_default_one(closed, owner, name):
    digest = owner.push_image(name, "v1")

    for path in (name, f"main/{name}"):
        answer = owner.request("HEAD", f"/v2/{path}/manifests/v1")

        assert answer.headers["docker-content-digest"] == digest
    main = get(closed, f"/v2/{name}/manifests/v1", owner.token, f"main.{closed.public_host}")
    assert main.headers["docker-content-digest"] == digest


def test_a_sub_domain_that_is_nobodys_holds_nothing(closed, owner, name):
    owner.push_image(name, "v1")

    for label in ("nobody", "bcdfghjklm", "a.b"):
        host = f"{label}.{closed.public_host}"
        answer = get(closed, f"/v2/{name}/tags/list", owner.token, host)

        assert answer.status == (404 if "." not in label else 200)


def test_a_project_is_one_repository(closed, owner, name):
    project = closed.new_project()
    token = closed.new_token("project", project=project)
    client = Client(closed.server, token=token)

    digest = client.push_image(project, "build-1")

    for caller in (client, owner):
        answer = caller.request("HEAD", f"/v2/{project}/manifests/build-1")
        assert answer.headers["docker-content-digest"] == digest
    below = client.request("GET", f"/v2/{project}/more/tags/list")
    assert below.status_code == 404
    other = client.request("POST", f"/v2/{name}/blobs/uploads/")
    assert other.status_code == 403
    client.close()


def test_an_organisation_alone_is_no_repository(closed, owner, tenant):
    slug, _, token = tenant

    answer = get(closed, f"/v2/{slug}/tags/list", token)
    push = owner.request("POST", "/v2/main/blobs/uploads/")

    assert answer.status == 404
    assert push.status_code == 403  # as for every place where nothing can be pushed
    assert code_of(push) == "DENIED"


def test_a_repository_appears_with_its_first_push(client, name):
    before = client.request("GET", f"/v2/{name}/tags/list")
    client.request("POST", f"/v2/{name}/blobs/uploads/")
    after = client.request("GET", f"/v2/{name}/tags/list")

    assert (before.status_code, after.status_code) == (404, 200)


def test_a_slug_must_not_hide_a_repository(closed, owner):
    taken = f"taken-{secrets.token_hex(4)}"
    owner.push_image(f"{taken}/app", "v1")

    with pytest.raises(Exception, match="begins with"):
        closed.new_organisation(taken)


@pytest.mark.parametrize("slug", ["v2", "api", "library", "bcdfghjklm", "UPPER", "a.b", "-a", ""])
def test_a_slug_outside_the_grammar_is_refused(closed, slug):
    with pytest.raises(Exception, match=r"slug|reserved"):
        closed.new_organisation(slug)


def test_ns_is_accepted_on_every_route_and_never_dialled(client, name):
    digest = client.push_image(name, "v1")
    blob = client.push_blob(name, b"content")

    for namespace in ("docker.io", "127.0.0.1:1", "http://169.254.169.254/", "", "a b"):
        params = {"ns": namespace}
        for method, path in (
            ("GET", "manifests/v1"),
            ("HEAD", f"manifests/{digest}"),
            ("GET", f"blobs/{blob}"),
            ("HEAD", f"blobs/{blob}"),
            ("GET", "tags/list"),
            ("GET", f"referrers/{digest}"),
            ("POST", "blobs/uploads/"),
        ):
            answer = client.request(method, f"/v2/{name}/{path}", params=params)

            assert answer.status_code in {200, 202}, (method, path)
            assert "oci-namespace" not in answer.headers
