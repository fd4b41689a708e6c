"""Errors on the wire: one form, the protocol's codes, and a table that misses none."""

import inspect
import json

import pytest

from entrepot.model import errors
from entrepot.model.access import Action
from entrepot.model.errors import EntrepotError
from entrepot.oci.errors import ON_THE_WIRE, Code, answer_error
from entrepot.oci.routes import ROUTES
from entrepot.web.answers import Answer
from entrepot.web.routing import Endpoint, Route, Router
from tests.protocol.wire import send

# The fourteen of the specification, and what the reference implementation adds and clients read.
SPECIFIED = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
CUSTOMARY = {"TAG_INVALID", "UNKNOWN", "UNAVAILABLE"}
# Codes by which clients decide, with the one status that fits.
STATUS = {
    "NAME_INVALID": {400},
    "TAG_INVALID": {400, 414},
    "DIGEST_INVALID": {400},
    "SIZE_INVALID": {400, 413},
    "MANIFEST_INVALID": {400, 413},
    "MANIFEST_BLOB_UNKNOWN": {400},
    "NAME_UNKNOWN": {404},
    "MANIFEST_UNKNOWN": {404},
    "BLOB_UNKNOWN": {404},
    "BLOB_UPLOAD_UNKNOWN": {404},
    "BLOB_UPLOAD_INVALID": {400, 404, 408, 416},
    "UNSUPPORTED": {400, 405},
    "UNAUTHORIZED": {401},
    "DENIED": {403, 409, 412},  # the last two are of the management API alone
    "TOOMANYREQUESTS": {429},
    "UNKNOWN": {499, 500},
    "UNAVAILABLE": {502, 503, 504, 507, 508},  # 502, 504 and 508: an upstream registry
}


def all_errors():
    return {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, EntrepotError) and kind is not EntrepotError
    }


def test_every_error_has_one_form_on_the_wire():
    assert set(ON_THE_WIRE) == all_errors()


def test_every_code_is_the_protocols():
    assert {code.value for code in Code} == SPECIFIED | CUSTOMARY


def test_every_code_has_the_status_that_clients_expect():
    for kind, (status, code) in ON_THE_WIRE.items():
        assert status in STATUS[code], kind


@pytest.mark.parametrize("kind", sorted(ON_THE_WIRE, key=str))
def test_the_body_of_an_error_has_the_one_form(kind):
    answer = answer_error(kind("a sentence", digest="sha256:x", secret="hidden"), [])

    assert isinstance(answer, Answer)
    assert (b"content-type", b"application/json") in answer.headers
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {
        "errors": [
            {
                "code": ON_THE_WIRE[kind][1].value,
                "message": "a sentence",
                "detail": {"digest": "sha256:x"},
            }
        ]
    }
    waits = dict(answer.headers).get(b"retry-after")
    assert (waits is not None) == (answer.status in {429, 503, 507})
    assert waits is None or waits.isdigit()


@pytest.mark.parametrize(("values", "seconds"), [({}, b"30"), ({"retry_after": 271}, b"271")])
def test_an_error_may_know_when_to_try_again(values, seconds):
    answer = answer_error(errors.TooManyRequests("a sentence", **values), [])

    assert (b"retry-after", seconds) in answer.headers


@pytest.mark.parametrize(("values", "seconds"), [({}, 10), ({"retry_after": 7}, 7)])
def test_a_client_that_waits_for_an_upstream_asks_again_soon(values, seconds):
    short = answer_error(errors.UpstreamBusy("a sentence", **values), [])
    long = answer_error(errors.UpstreamBusy("a sentence", retry_after=3_600), [])

    assert (b"retry-after", b"%d" % seconds) in short.headers
    assert (b"retry-after", b"10") in long.headers


def test_every_route_declares_its_action():
    for route in ROUTES:
        for endpoint in route.methods.values():
            assert isinstance(endpoint.action, Action)
    undeclared = Route("/v2/x", {"GET": Endpoint(None, print)})  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="declares no action"):
        Router((undeclared,))


def test_no_route_can_be_taken_for_a_repository_of_another():
    router = Router(ROUTES)

    for path, template, name in (
        ("/v2/a/blobs/b/manifests/v1", "/v2/{name}/manifests/{reference}", "a/blobs/b"),
        ("/v2/tags/list/tags/list", "/v2/{name}/tags/list", "tags/list"),
        ("/v2/a/referrers/b/referrers/d", "/v2/{name}/referrers/{digest}", "a/referrers/b"),
        ("/v2/token/manifests/v1", "/v2/{name}/manifests/{reference}", "token"),
        ("/v2/uploads/blobs/uploads/", "/v2/{name}/blobs/uploads[/]", "uploads"),
        (
            "/v2/a/blobs/uploads/blobs/uploads/x",
            "/v2/{name}/blobs/uploads/{upload}",
            "a/blobs/uploads",
        ),
        ("/v2/manifests/blobs/sha256:x", "/v2/{name}/blobs/{digest}", "manifests"),
    ):
        found = router.find(path)

        assert found is not None, path
        assert (found[0].template, found[1]["name"]) == (template, name)


def test_repositories_may_be_named_with_the_words_of_the_protocol(client, name):
    for words in ("blobs/b", "manifests", "tags/list", "uploads", "referrers/x", "blobs/uploads"):
        repository = f"{name}/{words}"
        digest = client.push_image(repository, "v1")

        assert client.request("GET", f"/v2/{repository}/manifests/v1").status_code == 200
        assert client.request("GET", f"/v2/{repository}/tags/list").json()["tags"] == ["v1"]
        assert client.request("GET", f"/v2/{repository}/referrers/{digest}").status_code == 200


def test_an_answer_to_head_has_the_status_of_get(client, name):
    client.push_image(name, "v1")

    for path in (
        "manifests/v1",
        "manifests/v2",
        "manifests/.x",
        f"blobs/sha256:{'0' * 64}",
        "blobs/sha256:x",
    ):
        statuses = {
            client.request(method, f"/v2/{name}/{path}").status_code for method in ("GET", "HEAD")
        }
        assert len(statuses) == 1, path


def test_a_method_that_a_path_does_not_take_says_which_it_takes(registry, client, name):
    for method, path, allowed in (
        ("POST", f"/v2/{name}/manifests/v1", "GET, HEAD, PUT, DELETE"),
        ("PATCH", f"/v2/{name}/tags/list", "GET"),
        ("GET", f"/v2/{name}/blobs/uploads/", "POST"),
        ("DELETE", "/v2/", "GET, HEAD"),
    ):
        answer = send(registry.server, method, path, {}, b"")

        assert answer.status == 405
        assert answer.headers["allow"] == allowed
        assert b"UNSUPPORTED" in answer.body
