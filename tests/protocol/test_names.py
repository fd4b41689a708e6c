"""Names and paths, raw: nothing outside the grammar is ever looked up (CVE-2024-4956)."""

from tests.protocol.registry import credential_of
from tests.protocol.wire import send
from tests.support.server import digest_of

DIGEST = digest_of(b"x")
BAD_NAMES = (
    "UPPER",
    "a/Upper",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a..b",
    "-a",
    "a-",
    "a_",
    "a___b",
    "a._b",
    "_catalog",
    "a/_b",
    "a\\b",
    "a b",
    "a%2fb",
    "a%2Fb",
    "%2e%2e",
    "a%00b",
    "a;b",
    "a~b",
    "a@b",
    "a:b",
    "a" * 256,
    "a/" * 200 + "a",
    "..%2f..%2f..%2fetc%2fpasswd",
    "..%5c..%5cetc",
)
PATHS = (
    "/v2/../../etc/passwd",
    "/v2/%2e%2e/%2e%2e/etc/passwd",
    "/v2//blobs/uploads/",
    "/v2/blobs/uploads/",
    f"/v2/manifests/{DIGEST}",
    "/v2/a/manifests/",
    "/v2/a/manifests/..%2f..%2fx",
    f"/v2/a/blobs/../../{DIGEST}",
    "/v2/a/blobs/",
    "/v2/a/tags/list/",
    "/v2/a/tags",
    "/v2/a",
    "/v2/_catalog/",
    "/v2/a/blobs/uploads/x/y",
    "/v2/%61/tags/list",
    "//v2/",
    "/V2/",
)


def test_a_name_outside_the_grammar_is_never_found(registry, client):
    credential = credential_of(registry, client, "a")

    for name in BAD_NAMES:
        target = f"/v2/{name}/tags/list".replace(" ", "%20")
        answer = send(registry.server, "GET", target, credential)

        assert answer.status in {400, 401, 404}, name
        assert b"NAME_" in answer.body or answer.status != 404, name


def test_a_path_that_is_no_route_is_not_found(registry, client):
    credential = credential_of(registry, client, "a")

    for method in ("GET", "PUT"):
        for path in PATHS:
            answer = send(registry.server, method, path, credential)

            assert answer.status in {400, 401, 404, 405}, path
            assert b"root:" not in answer.body


def test_bytes_that_are_no_text_do_no_harm(registry, client, name):
    client.push_image(name, "v1")
    credential = credential_of(registry, client, name)

    for path in (
        f"/v2/{name}/manifests/\xff",
        f"/v2/{name}\xc3\x28/tags/list",
        f"/v2/{name}/blobs/sha256:\xe2\x82",
        f"/v2/{name}/blobs/uploads/\xff\xfe",
        f"/v2/{name}/manifests/%ff",
    ):
        answer = send(registry.server, "GET", path, credential)

        assert 400 <= answer.status < 500, path
    assert client.request("GET", f"/v2/{name}/manifests/v1").status_code == 200


def test_upper_case_and_long_names_are_invalid(owner):
    for name in ("Upper/case", "a" * 256):
        answer = owner.request("POST", f"/v2/{name}/blobs/uploads/")

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "NAME_INVALID"


def test_the_longest_name_can_be_pushed_and_pulled(client, name):
    longest = (name + "/" + "a" * 255)[:255]

    client.push_image(longest, "v1")

    assert client.request("GET", f"/v2/{longest}/manifests/v1").status_code == 200


def test_objects_lie_under_keys_that_no_client_chose(registry, client, name):
    client.push_blob(name, b"content")
    folder = registry.server.data / "blobs"

    for path in folder.glob("*/*"):
        assert path.resolve().is_relative_to(folder.resolve())
        assert len(path.name) == 32
        assert set(path.name) <= set("0123456789abcdef")
