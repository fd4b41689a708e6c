"""The OpenAPI document lacks nothing, and the page that is made of it shows all of it."""

import base64
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser

import httpx
import pytest
from fastapi.routing import APIRoute
from jsonschema_rs import validator_for
from openapi_python_client.schema import OpenAPI

from entrepot.api import examples
from entrepot.api.application import ROUTERS
from entrepot.api.call import ACTION
from entrepot.api.description import PATHS, REFUSALS, TAGS, operations
from entrepot.api.page import Page, holders
from entrepot.api.problems import FRAMEWORK, PROBLEMS
from entrepot.model.access import Action
from tests.support.api_document import BASE, document, reference

OPERATIONS = list(operations(document()))
IDS = [operation["operationId"] for _, _, operation in OPERATIONS]
SCHEMAS = document()["components"]["schemas"]
each_operation = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)


def resolve(node):
    """What a `$ref` leads to."""
    while "$ref" in node:
        found = document()
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_document_is_valid_and_says_what_it_is():
    found = document()

    OpenAPI.model_validate(found)
    assert found["openapi"].startswith("3.1.")
    assert found["info"]["title"] == "Entrepot"
    assert found["info"]["version"] == "1.2.3"
    assert found["info"]["description"]
    assert found["servers"] == [{"url": BASE}]
    assert [tag["name"] for tag in found["tags"]] == list(TAGS)
    assert set(found["components"]["securitySchemes"]) == {"basic", "bearer"}


def test_every_reference_leads_somewhere_and_nothing_is_left_over():
    used = set(references(document()))
    for each in used:
        resolve({"$ref": each})

    text = json.dumps(document())
    assert "ValidationError" not in text
    for kind in ("schemas", "responses", "headers"):
        for name in document()["components"][kind]:
            assert f"#/components/{kind}/{name}" in used, name


def test_every_route_is_in_the_document_under_its_own_name():
    names = [
        route.name for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)
    ]

    assert sorted(IDS) == sorted(names)
    assert len(set(IDS)) == len(IDS)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in IDS)


@each_operation
def test_an_operation_says_everything(method, path, operation):
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert [tag for tag in operation["tags"] if tag in TAGS] == operation["tags"]
    assert len(operation["tags"]) == 1
    assert Action(operation[ACTION])
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter["name"]
        assert "anyOf" not in parameter["schema"]
        assert "null" not in json.dumps(parameter["schema"]), parameter["name"]
    in_path = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
    assert in_path == set(re.findall(r"\{(\w+)\}", path))
    assert in_path <= set(PATHS) & set(examples.VALUES)


@each_operation
def test_every_refusal_is_a_problem(method, path, operation):
    statuses = {int(status) for status in operation["responses"]}
    refusals = {status for status in statuses if status >= 400}

    assert len(statuses - refusals) == 1
    assert {400, 401, 500, 503} <= refusals
    for status in refusals:
        answer = resolve(operation["responses"][str(status)])
        assert list(answer["content"]) == ["application/problem+json"]
        problem = answer["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert validator_for(schema("Problem")).is_valid(problem["example"])
        assert problem["example"]["status"] == status
        headers = set(answer.get("headers", {}))
        assert headers == {401: {"WWW-Authenticate"}}.get(
            status, {"Retry-After"} if status in {429, 503, 507} else set()
        )


def test_every_problem_has_its_status_in_the_document():
    statuses = {status for status, _ in PROBLEMS.values()} | set(FRAMEWORK)

    # 405 is for methods that are no operations.
    assert statuses - {405} == set(REFUSALS)


@each_operation
def test_versions_and_keys_are_described(method, path, operation):
    taken = {each["name"] for each in operation.get("parameters", []) if each["in"] == "header"}
    status = next(status for status in operation["responses"] if int(status) < 400)
    answer = operation["responses"][status]
    headers = set(answer.get("headers", {}))

    assert taken <= {"If-Match", "Idempotency-Key"}
    assert ("Idempotency-Key" in taken) == ("Idempotency-Replayed" in headers)
    assert ("Idempotency-Key" in taken) <= (status == "201")
    assert ("If-Match" in taken) == ("412" in operation["responses"])
    if "If-Match" in taken and method == "PATCH":
        assert "ETag" in headers


def schema(name):
    """One schema with all that it refers to."""
    return {**SCHEMAS[name], "components": {"schemas": SCHEMAS}}


def test_every_body_has_an_example_that_it_takes():
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
        for _, _, operation in OPERATIONS
        if "requestBody" in operation
    }

    assert bodies == set(examples.BODIES)
    for name in bodies:
        assert SCHEMAS[name]["additionalProperties"] is False
        for example in SCHEMAS[name]["examples"]:
            assert validator_for(schema(name)).is_valid(example), name


def test_a_change_has_no_defaults():
    """What is not named stays; a generated client would send the default."""
    for method, _, operation in OPERATIONS:
        if method == "PATCH":
            body = resolve(operation["requestBody"]["content"]["application/json"]["schema"])
            assert [name for name, field in body["properties"].items() if "default" in field] == []


def test_every_schema_is_described():
    assert [name for name, found in SCHEMAS.items() if not found.get("description")] == []


def test_only_public_operations_do_without_a_credential():
    for _, _, operation in OPERATIONS:
        is_public = operation[ACTION] == "public"
        assert ({} in operation.get("security", document()["security"])) == is_public


class Reader(HTMLParser):
    """Tags, ids and links of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.links, self.loaded = set(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name == "href":
                self.links.append(value)
            if name in {"src", "srcset", "style", "action"} or name.startswith("on"):
                self.loaded.append((tag, name))


def test_the_page_shows_every_operation_and_loads_nothing():
    reader = Reader()
    html = reference().page(BASE)
    reader.feed(html)

    assert set(IDS) <= set(reader.ids)
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.loaded == []
    assert reader.tags.isdisjoint({"script", "link", "img", "iframe", "form", "base", "object"})
    for link in reader.links:
        assert link == "/api/v1/openapi.json" or link.removeprefix("#") in reader.ids, link
    assert "@import" not in html
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html


def test_what_the_document_says_is_text_on_the_page():
    found = json.loads(json.dumps(document()))
    found["info"]["description"] = "<script>alert(1)</script> `<b>`"
    page = Page(found, "https://a'b")

    html = reference()._template.render(page=page, style="")

    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code>" in html
    assert "https://a'b" not in html


def test_examples_are_commands_that_a_shell_reads():
    page = Page(document(), "https://a b'; rm -rf /")

    curls = [each.curl for _, _, group in page.groups for each in group]

    for curl in curls:
        words = shlex.split(curl.replace("\\\n", " "))
        assert words[0] == "curl"
        assert sum(word.startswith("https://a b'; rm -rf //api/v1/") for word in words) == 1


@pytest.mark.parametrize(
    ("action", "who"),
    [
        (Action.PUBLIC, "everybody, without a credential"),
        (Action.LOGIN, "every credential"),
        (Action.ADMINISTER, "server administrators"),
        (Action.CREATE_PROJECT, "members and above, tokens of organisations that may manage"),
        (Action.OWN_ORGANISATION, "owners, server administrators"),
        (
            Action.PULL,
            "readers and above, tokens of organisations, tokens of projects, pull tokens",
        ),
    ],
)
def test_the_page_says_who_may(action, who):
    assert holders(action) == who


@pytest.mark.parametrize("authorization", [None, "Basic eDp5"])
def test_document_and_page_are_served(registry, authorization):
    headers = {"authorization": authorization} if authorization else {}
    refused = authorization is not None

    served = httpx.get(f"{registry.url}/api/v1/openapi.json", headers=headers, timeout=30)
    page = httpx.get(f"{registry.url}/api/docs", headers=headers, timeout=30)

    if refused:  # a credential that is sent has to be right, here too
        assert (served.status_code, page.status_code) == (401, 401)
        return
    assert served.status_code == page.status_code == 200
    assert served.headers["content-type"] == "application/json"
    assert served.json()["servers"] == [{"url": registry.url}]
    assert served.json()["paths"] == document()["paths"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f"{registry.url}/api/v1/whoami" in page.text


def test_the_policy_of_the_page_lets_its_own_style_in_and_nothing_else(registry):
    page = httpx.get(f"{registry.url}/api/docs", timeout=30)

    [policy] = page.headers.get_list("content-security-policy")
    style = re.search(r"<style>(.*?)</style>", page.text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    ]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_a_foreign_host_is_not_repeated(registry):
    for path in ("/api/docs", "/api/v1/openapi.json"):
        answer = httpx.get(f"{registry.url}{path}", headers={"host": "evil.example"}, timeout=30)

        assert answer.status_code == 200
        assert "evil.example" not in answer.text
