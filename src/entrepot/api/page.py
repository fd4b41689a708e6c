"""What the documentation page shows of the OpenAPI document, for its template to walk."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup, escape

from entrepot.api.call import ACTION
from entrepot.api.description import COMMON, Json, body_of, operations, problems_of
from entrepot.model.access import Action
from entrepot.model.rights import (
    ADMINISTRATOR_ACTIONS,
    MANAGING_ACTIONS,
    ORGANISATION_ACTIONS,
    PROJECT_ACTIONS,
    PULL_ACTIONS,
    RANK,
    ROLE_ACTIONS,
)

_SCHEMA = "#/components/schemas/"
_LIMITS: Mapping[str, str] = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "maxItems": "at most {} entries",
    "pattern": "matches {}",
}
_SPECIAL: Mapping[Action, str] = {
    Action.PUBLIC: "everybody, without a credential",
    Action.LOGIN: "every credential",
    Action.ADMINISTER: "server administrators",
}
_TOKENS = (
    ("tokens of organisations", ORGANISATION_ACTIONS),
    ("tokens of projects", PROJECT_ACTIONS),
    ("pull tokens", PULL_ACTIONS),
)


def prose(text: str) -> Markup:
    """Text with `code` in it."""
    parts = re.split(r"`([^`]*)`", text)
    return Markup().join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def holders(action: Action) -> str:
    """Who may do it, in words."""
    if action in _SPECIAL:
        return _SPECIAL[action]
    roles = [role for role in RANK if action in ROLE_ACTIONS[role]]
    found = [f"{roles[0]}s and above" if len(roles) > 1 else f"{roles[0]}s"]
    if action in ADMINISTRATOR_ACTIONS:
        found.append("server administrators")
    found += [name for name, actions in _TOKENS if action in actions]
    if action in MANAGING_ACTIONS - ORGANISATION_ACTIONS:
        found.append("tokens of organisations that may manage")
    return ", ".join(found)


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter or field. `schema` is what its type is called, if it is one of the document."""

    name: str
    kind: str
    schema: str
    is_required: bool
    notes: list[str]
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which an operation answers."""

    status: str
    text: str
    kind: str
    schema: str
    problems: list[str]
    headers: list[str]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation."""

    id: str
    method: str
    path: str
    summary: str
    paragraphs: list[str]
    action: str
    holders: str
    parameters: list[tuple[str, Row]]
    body: str
    fields: list[Row]
    answers: list[Answer]
    curl: str


class Page:
    """The page: groups of operations, and the schemas of what they answer."""

    def __init__(self, document: Json, base: str) -> None:
        self._document = document
        self.base = base
        self.info: Json = document["info"]
        self.paragraphs: list[str] = [
            " ".join(part.split()) for part in self.info["description"].split("\n\n")
        ]

    @cached_property
    def groups(self) -> list[tuple[str, str, list[Operation]]]:
        """Name, description and operations of each tag."""
        found = [
            (operation["tags"][0], self._operation(method, path, operation))
            for method, path, operation in operations(self._document)
        ]
        return [
            (tag["name"], tag["description"], [each for name, each in found if name == tag["name"]])
            for tag in self._document["tags"]
        ]

    @cached_property
    def schemas(self) -> list[tuple[str, str, list[Row]]]:
        """Name, description and fields of what is answered."""
        return [
            (name, schema.get("description", ""), list(self._rows(schema)))
            for name, schema in sorted(self._document["components"]["schemas"].items())
            if name not in self._bodies
        ]

    @cached_property
    def common(self) -> list[Answer]:
        """What any operation can answer."""
        return [
            self._refusal(status, self._document["components"]["responses"][name])
            for status, name in self._refusals
            if int(status) in COMMON
        ]

    @cached_property
    def _refusals(self) -> list[tuple[str, str]]:
        found = {
            (status, answer["$ref"].rpartition("/")[2])
            for _, _, operation in operations(self._document)
            for status, answer in operation["responses"].items()
            if "$ref" in answer
        }
        return sorted(found)

    @cached_property
    def _bodies(self) -> set[str]:
        """Schemas that are only sent, and shown where they are."""
        found = [operation for _, _, operation in operations(self._document)]
        answered = json.dumps([operation["responses"] for operation in found])
        sent = {body_of(operation) for operation in found if "requestBody" in operation}
        return {name for name in sent if f'"{_SCHEMA}{name}"' not in answered}

    def _operation(self, method: str, path: str, operation: Json) -> Operation:
        body = body_of(operation) if "requestBody" in operation else ""
        schema = self._document["components"]["schemas"][body] if body else {}
        action = Action(operation[ACTION])
        return Operation(
            id=operation["operationId"],
            method=method,
            path=path,
            summary=operation["summary"],
            paragraphs=operation["description"].split("\n\n"),
            action=str(action),
            holders=holders(action),
            parameters=[
                (each["in"], self._row(each["name"], each | each["schema"], is_required=_is(each)))
                for each in operation.get("parameters", [])
            ],
            body=schema.get("description", ""),
            fields=list(self._rows(schema)),
            answers=list(self._answers(operation["responses"])),
            curl=self._curl(method, path, operation, schema.get("examples", [None])[0]),
        )

    def _answers(self, responses: Json) -> Iterator[Answer]:
        for status, answer in responses.items():
            if "$ref" not in answer:
                kinds = answer.get("content", {})
                kind, schema = "", ""
                if kinds:
                    kind, schema = _kind(next(iter(kinds.values()))["schema"])
                    kind = " or ".join([kind, *list(kinds)[1:]])
                headers = list(answer.get("headers", {}))
                yield Answer(status, answer["description"], kind, schema, [], headers)
            elif int(status) not in COMMON:
                name = answer["$ref"].rpartition("/")[2]
                yield self._refusal(status, self._document["components"]["responses"][name])

    @staticmethod
    def _refusal(status: str, answer: Json) -> Answer:
        text = answer["description"].rpartition(":")[0]
        headers = list(answer.get("headers", {}))
        return Answer(status, text, "Problem", "Problem", problems_of(int(status)), headers)

    def _rows(self, schema: Json) -> Iterator[Row]:
        for name, field in schema.get("properties", {}).items():
            yield self._row(name, field, is_required=name in schema.get("required", []))

    @staticmethod
    def _row(name: str, field: Json, *, is_required: bool) -> Row:
        kind, schema = _kind(field)
        parts = [field, *field.get("anyOf", [])]
        notes = [
            words.format(f"{part[key]:,.0f}" if isinstance(part[key], int | float) else part[key])
            for part in parts
            for key, words in _LIMITS.items()
            if key in part
        ]
        if field.get("default") is not None:
            notes.append(f"default {json.dumps(field['default'])}")
        return Row(name, kind, schema, is_required, notes, field.get("description", ""))

    def _curl(self, method: str, path: str, operation: Json, body: object) -> str:
        values = {
            each["name"]: str(each.get("example", each["name"]))
            for each in operation.get("parameters", [])
            if each["in"] == "path"
        }
        words = ["curl"]
        if operation[ACTION] != Action.PUBLIC:
            words.append('-u "x-token:$ENTREPOT_TOKEN"')
        if method != "GET":
            words.append(f"-X {method}")
        lines = [" ".join(words), shlex.quote(self.base + path.format(**values))]
        if body is not None:
            lines.append("-H 'Content-Type: application/json'")
            lines.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
        return " \\\n  ".join(lines)


def _is(parameter: Json) -> bool:
    return bool(parameter.get("required"))


def _kind(field: Json) -> tuple[str, str]:
    """A type in words, and the schema that it is or has in it."""
    if "$ref" in field:
        name = str(field["$ref"]).removeprefix(_SCHEMA)
        return name, name
    if "anyOf" in field:
        kinds = [_kind(each) for each in field["anyOf"]]
        return " or ".join(kind for kind, _ in kinds), "".join(schema for _, schema in kinds)
    if "enum" in field or "const" in field:
        return " | ".join(map(str, field.get("enum", [field.get("const")]))), ""
    match field.get("type"):
        case "array":
            kind, schema = _kind(field.get("items", {}))
            return f"list of {kind}", schema
        case "string" if field.get("format") == "date-time":
            return "time", ""
        case str(name):
            return name, ""
        case _:
            return "any", ""
