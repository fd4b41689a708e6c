"""What no client of ours sends: the management API refuses it, in one form, and stays up."""

import json
import socket
from http.client import HTTPConnection

import httpx
import pytest

from tests.support.api_document import document

JSON = "application/json"
PROBLEM = "application/problem+json"
LIMIT = 256 * 1024


@pytest.fixture
def ask(registry):
    """Sends a body as it is, as the administrator."""
    with httpx.Client(
        base_url=f"{registry.url}/api/v1", timeout=60, verify=registry.server.trust
    ) as http:
        http.headers["authorization"] = f"Bearer {registry.server.token}"

        def send(method, path, content=b"", kind=JSON, **headers):
            if kind is not None:
                headers["content-type"] = kind
            return http.request(method, path, content=content, headers=headers)

        yield send


def name_of(answer):
    """The problem of an answer, which has the form that is described."""
    problem = answer.json()
    assert answer.headers["content-type"] == PROBLEM
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    assert set(problem) == {"type", "title", "status", "detail", "request_id", "errors"}
    return problem["type"].removeprefix("urn:entrepot:problem:")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        b'{"name": "a"',
        b'{"name": "\xff\xfe"}',
        b'{"name": "\xed\xa0\x80"}',
        b"\xff",
        '{"name": "a"}'.encode("utf-16"),
        '{"name": "a\\u0000b"}'.encode("utf-16-le"),
        '{"name": "a\\u0000b"}'.encode("utf-32-be"),
        b'{"name": "a\0b"}',
        b'{"name": ' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 20_000,
    ],
    ids=range(13),
)
def test_a_body_that_is_no_json_in_utf_8_is_unreadable(ask, people, body):
    slug = people.organisation()

    answer = ask("POST", f"/organisations/{slug}/projects", body)

    assert (answer.status_code, name_of(answer)) == (400, "request-invalid")
    assert people.admin.items(f"/organisations/{slug}/projects") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"true",
        b"{}",
        b'{"name": 1}',
        b'{"name": null}',
        b'{"name": ["a"]}',
        b'{"name": {"a": "b"}}',
        b'{"name": "a", "more": 1}',
        b'{"name": "a", "__proto__": {}}',
        b'{"name": ""}',
        b'{"name": "' + b"a" * 201 + b'"}',
        b'{"name": "a\\u0000b"}',
        b'{"\\u0000": "a"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\\udfff\\ud800"}',
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": 1e999}',
        b'{"name": ' + b"[" * 500 + b"]" * 500 + b"}",
    ],
    ids=range(23),
)
def test_a_body_of_another_form_is_refused(ask, people, body):
    slug = people.organisation()

    answer = ask("POST", f"/organisations/{slug}/projects", body)

    assert answer.status_code == 422
    assert name_of(answer) == "field-invalid"
    assert people.admin.items(f"/organisations/{slug}/projects") == []


@pytest.mark.parametrize(
    "name",
    ["\u202etxt.exe", "e\u0301", "🦜", "\x01\x7f", "a\\u0000b", "'; DROP TABLE projects; --"],
)
def test_text_of_people_is_kept_as_it_is(people, name):
    slug = people.organisation()

    made = people.admin.made(f"/organisations/{slug}/projects", {"name": name})

    assert made["name"] == name
    assert people.admin.get(f"/projects/{made['id']}").json()["name"] == name


@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "a/b;c=d"],
)
def test_a_body_of_another_type_is_refused(ask, people, kind):
    """A page of another site can make a browser send these, and no JSON."""
    slug = people.organisation()

    answer = ask("POST", f"/organisations/{slug}/projects", b'{"name": "a"}', kind)

    assert answer.status_code == 415
    assert name_of(answer) == "media-type-unsupported"
    assert "Content-Type: application/json" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_type_of_a_body_is_read_as_http_has_it(ask, people, kind):
    slug = people.organisation()

    answer = ask("POST", f"/organisations/{slug}/projects", b'{"name": "a"}', kind)

    assert answer.status_code == 201


@pytest.mark.parametrize(
    "number",
    ["1" + "0" * 30, "-" + "9" * 19, "9223372036854775808", "1e400", "-1", "0", "59", "0.5"],
)
def test_numbers_beyond_their_limits_are_refused(ask, number):
    in_body = ask("POST", "/tokens", b'{"expires_in": %s}' % number.encode())
    in_query = ask("GET", f"/tokens?limit={number if number != '59' else '1001'}")

    assert (in_body.status_code, name_of(in_body)) == (422, "field-invalid")
    assert (in_query.status_code, name_of(in_query)) == (422, "field-invalid")
    assert in_query.json()["errors"][0]["field"] == "limit"


@pytest.mark.parametrize(
    "query",
    ["query=%00", "path=a%00b", "query=a&query=%00", "%00=a", "since=2026", "until=0.5", "since=x"],
)
def test_queries_that_cannot_be_taken_are_refused(ask, people, query):
    slug = people.organisation()
    noun = "audit" if query[:5] in {"since", "until"} else "repositories"

    answer = ask("GET", f"/organisations/{slug}/{noun}?{query}")

    assert (answer.status_code, name_of(answer)) == (422, "field-invalid")


@pytest.mark.parametrize(
    "text", ["%ff", "%C0%AF", "%ED%A0%80", "%", "%zz", "a" * 255, "%F0%9F%A6%9C"]
)
def test_any_other_query_finds_nothing(ask, people, text):
    slug = people.organisation()

    answer = ask("GET", f"/organisations/{slug}/repositories?query={text}")

    assert answer.status_code == 200
    assert answer.json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    "cursor", ["x", "====", "AA==", "%00", "é", "AAAA" * 300, "_w==", "MDAwMDAwMDAwMDAwMA=="]
)
@pytest.mark.parametrize("path", ["/tokens", "/organisations", "/users"])
def test_a_cursor_that_is_not_ours_harms_nobody(ask, path, cursor):
    answer = ask("GET", f"{path}?cursor={cursor}")

    assert answer.status_code in {200, 422}
    if answer.status_code == 422:
        assert name_of(answer) == "field-invalid"


def test_a_body_up_to_the_limit_is_read_and_no_more(ask, people, registry):
    path = f"/organisations/{people.organisation()}/projects"
    body = b'{"name": "a"}'

    assert ask("POST", path, body.ljust(LIMIT)).status_code == 201
    over = ask("POST", path, body.ljust(LIMIT + 1))
    assert (over.status_code, name_of(over)) == (413, "request-too-large")
    in_pieces = ask("POST", path, (b" " * 65_536 for _ in range(5)))
    assert (in_pieces.status_code, name_of(in_pieces)) == (413, "request-too-large")


def test_headers_have_a_limit(ask):
    answer = ask("GET", "/whoami", x_filler="a" * 33 * 1024)

    assert answer.status_code in {413, 431}
    assert ask("GET", "/whoami").status_code == 200


def test_a_body_that_is_shorter_than_announced_ends_without_a_change(people, registry):
    slug = people.organisation()
    head = (
        f"POST /api/v1/organisations/{slug}/projects HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: Bearer {registry.server.token}\r\ncontent-type: {JSON}\r\n"
        'content-length: 100\r\n\r\n{"name": "a"}'
    )

    with socket.create_connection(("127.0.0.1", registry.server.port), timeout=10) as connection:
        connection.sendall(head.encode())

    assert people.admin.items(f"/organisations/{slug}/projects") == []


def raw(registry, method, path, **headers):
    """One request whose path nobody tidies up."""
    connection = HTTPConnection("127.0.0.1", registry.server.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader("authorization", f"Bearer {registry.server.token}")
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/organisations%2Fmain",
        "/api/v1/organisations/main%2ftokens",
        "/api/v1/organisations/x%2F..%2Fmain",
        "/api/v1/organisations/main%5Ctokens",
        "/api/v1/organisations/main%00",
        "/api/v1/users/%00",
        "/api/v1/organisations/../organisations/main",
        "/api/v1/organisations/./main",
        "/api/v1//organisations/main",
        "/api/v1/organisations//main",
        "/api/v1/organisations/main/",
        "/api/v1/organisations/main;a=b",
        "/api/v1/organisations/MAIN",
        "/api/v1/organisations/%C3%A9",
        "/api/v1/organisations/%ff",
        "/api/v1/users/%F0%9F%A6%9C",
        "/api/v1/organisations/" + "a" * 8_000,
        "/api/V1/organisations",
        "/api/v1",
        "/api/",
        "/api",
        "/api/v2/organisations",
        "/api/docs/",
    ],
)
def test_no_other_spelling_of_a_path_leads_anywhere(registry, path):
    status, headers, body = raw(registry, "GET", path)

    assert status == 404, body[:200]
    if path != "/api":
        assert headers["content-type"] == PROBLEM
        assert json.loads(body)["type"] == "urn:entrepot:problem:not-found"


def test_letters_may_come_encoded(registry):
    status, _, body = raw(registry, "GET", "/api/v1/organisations/%6Dain")

    assert status == 200
    assert json.loads(body)["slug"] == "main"


@pytest.mark.parametrize("path", sorted(document()["paths"]))
def test_other_methods_are_refused_with_those_that_are_taken(sqlite_registry, path):
    taken = {method.upper() for method in document()["paths"][path]}
    taken |= {"HEAD"} if "GET" in taken else set()
    path = path.replace("{", "").replace("}", "")

    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} - taken:
        status, headers, body = raw(sqlite_registry, method, path, content_length="0")

        assert status == 405, method
        assert set(headers["allow"].split(", ")) == taken
        assert body == b"" or json.loads(body)["type"] == "urn:entrepot:problem:method-not-allowed"


@pytest.mark.parametrize(
    "path",
    [
        "/api/docs",
        "/api/v1/openapi.json",
        "/api/v1/whoami",
        "/api/v1/organisations/main",
        "/api/v1/organisations/main/audit",
        "/api/v1/organisations/nobodys",
        "/api/v1/nothing",
    ],
)
def test_head_answers_like_get_without_the_body(registry, path):
    got, headers, body = raw(registry, "GET", path)
    asked, same, nothing = raw(registry, "HEAD", path)

    one_time = {"date", "x-request-id", "content-length"}
    assert asked == got
    assert body
    assert nothing == b""
    assert {k: v for k, v in same.items() if k not in one_time} == {
        k: v for k, v in headers.items() if k not in one_time
    }


def test_head_of_a_download_ends(registry):
    status, headers, body = raw(registry, "HEAD", "/api/v1/organisations/main/audit?format=csv")

    assert (status, body) == (200, b"")
    assert headers["content-type"].startswith("text/csv")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("OPTIONS", "/api/v1/organisations"),
        ("GET", "/api/v1/organisations"),
        ("GET", "/api/v1/nothing"),
        ("GET", "/api/docs"),
        ("GET", "/api/v1/openapi.json"),
    ],
)
def test_pages_of_other_sites_are_told_nothing(registry, method, path):
    _, headers, _ = raw(
        registry,
        method,
        path,
        origin="https://evil.example",
        access_control_request_method="POST",
        access_control_request_headers="authorization",
    )

    assert [name for name in headers if name.lower().startswith("access-control-")] == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/docs",
        "/api/v1/openapi.json",
        "/api/v1/whoami",
        "/api/v1/nothing",
        "/api/v1/organisations/main/audit?format=csv",
    ],
)
def test_a_browser_neither_guesses_nor_keeps_nor_frames_an_answer(registry, method, path):
    _, headers, _ = raw(registry, method, path)

    policy = headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert policy.endswith("sandbox")


def test_the_table_of_the_audit_log_is_a_download(registry):
    _, headers, _ = raw(registry, "GET", "/api/v1/organisations/main/audit?format=csv")

    assert headers["content-disposition"] == 'attachment; filename="audit.csv"'


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Basic"},
        {"authorization": "Basic ===="},
        {"authorization": "Basic /////w=="},
        {"authorization": "Bearer"},
        {"authorization": "Bearer entrepot_user_"},
        {"authorization": "Digest a"},
        {"authorization": "Bearer " + "a" * 20_000},
        {},
    ],
    ids=range(8),
)
def test_a_refusal_of_a_credential_says_how_to_authenticate(registry, header):
    answer = httpx.get(f"{registry.url}/api/v1/whoami", headers=header, timeout=30)

    assert (answer.status_code, name_of(answer)) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == f'Basic realm="{registry.url}"'


@pytest.mark.parametrize("key", ["", "a b", "é".encode(), "a" * 256])
def test_a_key_that_cannot_be_kept_is_refused(people, key):
    slug = people.organisation()

    answer = people.admin.post(
        f"/organisations/{slug}/projects", {"name": "a"}, headers={"idempotency-key": key}
    )

    assert (answer.status_code, name_of(answer)) == (422, "field-invalid")
    assert people.admin.items(f"/organisations/{slug}/projects") == []


@pytest.mark.parametrize("tag", ["", '""', "x", '"x"', "W/", '"' + "9" * 30 + '"', '"-1"', "²"])
def test_a_version_that_was_never_ours_is_stale(people, tag):
    path = f"/organisations/{people.organisation()}"

    answer = people.admin.patch(path, {"name": "a"}, headers={"if-match": tag.encode()})

    assert (answer.status_code, name_of(answer)) == (412, "stale")
