"""For each row of the table: a request that whoever may gets an answer to, and fresh things to end.

A refused request finds what everybody knows, so that what is refused would have been there. An
allowed one that would end it gets a thing of its own, or is stopped by a precondition that only
somebody who was let in can meet: `only_allowed`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from tests.access.world import PASSWORD, World

SUCCESS = frozenset({200, 201, 202, 204})
STALE = frozenset({412})
_STALE = {"if-match": '"0"'}


@dataclass(frozen=True, slots=True)
class Ask:
    """How a row is asked. `fresh` makes what an allowed request ends."""

    body: Callable[[World], Any] | Any = None
    fresh_body: Callable[[World], Any] | None = None
    headers: Mapping[str, str] | None = None
    fresh: Callable[[World], dict[str, str]] | None = None
    values: Callable[[World], dict[str, str]] | None = None
    only_allowed: frozenset[int] = SUCCESS


def _token(world: World, **body: Any) -> dict[str, str]:
    path = f"/organisations/{world.ours.slug}/tokens"
    return {"token": world.as_owner("POST", path, {"kind": "org", **body})["id"]}


def _own_token(world: World) -> dict[str, str]:
    return {"token": world.as_owner("POST", "/tokens", {})["id"]}


def _invited(world: World) -> dict[str, str]:
    made = world.as_owner("POST", f"/organisations/{world.ours.slug}/invitations", {})
    return {"invitation": made["id"]}


def _linked(world: World) -> dict[str, str]:
    """The link to the spare repository, which is there again."""
    spare = world.ours.repositories["spare"]
    world.as_owner("PUT", f"/projects/{world.ours.project}/repositories/{spare}")
    return {"repository": spare}


def _upstream(world: World) -> dict[str, str]:
    path = f"/organisations/{world.ours.slug}/upstreams"
    body = {"name": world.word(), "url": world.upstream.origin}
    return {"upstream": world.as_owner("POST", path, body)["id"]}


def _mirror(world: World) -> dict[str, str]:
    path = f"/organisations/{world.ours.slug}/mirrors"
    return {"mirror": world.as_owner("POST", path, _new_mirror(world))["id"]}


def _new_mirror(world: World) -> dict[str, str]:
    return {"prefix": world.word(), "upstream": "members"}


def _of_upstream(world: World) -> dict[str, Any]:
    """A repository of what the upstream opens to members."""
    world.upstream.put_image("library/app", "v1")
    return _at_team(world) | {"upstream": {"name": "members", "path": "library/app"}}


def _of_members(world: World) -> dict[str, str]:
    """The upstream that members may use."""
    return {"upstream": world.ours.upstreams["members"]}


def _of_kind(kind: str) -> Callable[[World], dict[str, str]]:
    return lambda world: {"token": world.ours.tokens[kind]}


def _creator(_: World) -> dict[str, str]:
    """Who made the organisation owns it."""
    return {"user": "admin"}


def _at_team(world: World) -> dict[str, Any]:
    return {"path": f"team/{world.word()}"}


MANAGEMENT: dict[tuple[str, str], Ask] = {
    ("POST", "/login"): Ask({"name": "admin", "password": PASSWORD}),
    # Who may not change a password is told so before the new one is looked at.
    ("PUT", "/password"): Ask({"new": "short"}, only_allowed=frozenset({422})),
    ("POST", "/users"): Ask(lambda world: {"name": world.word()}),
    ("PATCH", "/users/{user}"): Ask({"is_disabled": False}, headers=_STALE, only_allowed=STALE),
    ("POST", "/organisations"): Ask(lambda world: {"slug": world.word()}),
    ("PATCH", "/organisations/{organisation}"): Ask({"name": "Ours"}),
    ("PATCH", "/organisations/{organisation}#price"): Ask({"price_per_gb_month": "0.10"}),
    ("PATCH", "/organisations/{organisation}#quota"): Ask({"quota": {"tags": 1_000_000}}),
    ("DELETE", "/organisations/{organisation}"): Ask(headers=_STALE, only_allowed=STALE),
    ("POST", "/organisations/{organisation}/break-glass"): Ask(
        {"reason": "a test"}, fresh=lambda world: {"organisation": world.new_organisation()}
    ),
    ("PATCH", "/organisations/{organisation}/members/{user}"): Ask({"role": "reader"}),
    ("PATCH", "/organisations/{organisation}/members/{user}#owner"): Ask(
        {"role": "owner"}, headers=_STALE, only_allowed=STALE
    ),
    ("DELETE", "/organisations/{organisation}/members/{user}"): Ask(
        # Not one of the principals, who might leave.
        values=lambda world: {"user": world.ours.users["spare"]},
        headers=_STALE,
        only_allowed=STALE,
    ),
    ("DELETE", "/organisations/{organisation}/members/{user}#owner"): Ask(
        values=_creator, headers=_STALE, only_allowed=STALE
    ),
    ("POST", "/organisations/{organisation}/invitations"): Ask({}),
    ("POST", "/organisations/{organisation}/invitations#owner"): Ask({"role": "owner"}),
    ("DELETE", "/organisations/{organisation}/invitations/{invitation}"): Ask(fresh=_invited),
    # Nobody has to name the user to make, and is told so: 422.
    ("POST", "/invitations/accept"): Ask(
        lambda world: {"invitation": world.open_invitation},
        fresh_body=lambda world: {"invitation": world.new_invitation()},
        only_allowed=frozenset({201, 422}),
    ),
    ("POST", "/organisations/{organisation}/projects"): Ask({"name": "made"}),
    ("PATCH", "/projects/{project}"): Ask({"name": "project"}),
    ("DELETE", "/projects/{project}"): Ask(headers=_STALE, only_allowed=STALE),
    ("POST", "/projects/{project}/transfer"): Ask(lambda world: {"organisation": world.ours.slug}),
    ("DELETE", "/projects/{project}/repositories/{repository}"): Ask(
        fresh=_linked, values=lambda world: {"repository": world.ours.repositories["spare"]}
    ),
    ("POST", "/organisations/{organisation}/repositories"): Ask(_at_team),
    ("POST", "/organisations/{organisation}/repositories#policy"): Ask(
        lambda world: _at_team(world) | {"is_read_only": True}
    ),
    ("POST", "/tokens"): Ask({}),
    # A pull token that any of them could make within its own limits.
    ("POST", "/organisations/{organisation}/tokens"): Ask({"kind": "pull"}),
    ("POST", "/organisations/{organisation}/tokens#project"): Ask(
        lambda world: {"kind": "project", "project": world.ours.project}
    ),
    ("POST", "/organisations/{organisation}/tokens#organisation"): Ask({"kind": "org"}),
    ("GET", "/tokens/{token}#organisation"): Ask(values=_of_kind("org")),
    ("GET", "/tokens/{token}#project"): Ask(values=_of_kind("project")),
    ("GET", "/tokens/{token}#pull"): Ask(values=_of_kind("pull")),
    ("GET", "/tokens/{token}#user"): Ask(values=_of_kind("user")),
    ("DELETE", "/tokens/{token}#organisation"): Ask(values=_of_kind("org"), fresh=_token),
    ("DELETE", "/tokens/{token}#project"): Ask(
        values=_of_kind("project"),
        fresh=lambda world: _token(world, kind="project", project=world.ours.project),
    ),
    ("DELETE", "/tokens/{token}#pull"): Ask(
        values=_of_kind("pull"), fresh=lambda world: _token(world, kind="pull")
    ),
    ("DELETE", "/tokens/{token}#user"): Ask(values=_of_kind("user"), fresh=_own_token),
    ("PATCH", "/settings"): Ask({"is_read_only": False}),
    ("POST", "/organisations/{organisation}/upstreams"): Ask(
        lambda world: {"name": world.word(), "url": world.upstream.origin}
    ),
    ("POST", "/organisations/{organisation}/repositories#upstream"): Ask(_of_upstream),
    ("POST", "/organisations/{organisation}/mirrors"): Ask(_new_mirror),
    ("PATCH", "/mirrors/{mirror}"): Ask({"deny": []}),
    ("DELETE", "/mirrors/{mirror}"): Ask(fresh=_mirror),
    ("PATCH", "/upstreams/{upstream}"): Ask({"member_patterns": []}),
    ("POST", "/upstreams/{upstream}/check"): Ask({}),
    ("DELETE", "/upstreams/{upstream}"): Ask(fresh=_upstream),
    ("GET", "/upstreams/{upstream}#members"): Ask(values=_of_members),
    ("PATCH", "/upstreams/{upstream}#members"): Ask(
        {"member_patterns": ["library/*"]}, values=_of_members
    ),
    ("POST", "/upstreams/{upstream}/check#members"): Ask({}, values=_of_members),
    ("DELETE", "/upstreams/{upstream}#members"): Ask(values=_of_members, fresh=_upstream),
    ("PATCH", "/repositories/{repository}"): Ask({"protected_tags": []}),
    ("DELETE", "/repositories/{repository}"): Ask(headers=_STALE, only_allowed=STALE),
    # What is there stays as it is.
    ("POST", "/repositories/{repository}/tags/{tag}/restore"): Ask({"version": 1}),
    ("POST", "/repositories/{repository}/retention/restore"): Ask(
        {"since": "2026-01-01T00:00:00Z"}
    ),
    ("PUT", "/repositories/{repository}/retention"): Ask({"never": True}),
    ("POST", "/repositories/{repository}/retention/preview"): Ask({}),
    # None of them comes from an upstream.
    ("POST", "/repositories/{repository}/sync"): Ask({}, only_allowed=frozenset({422})),
}
# These end something in the repository at hand: made anew by `fill_again`.
ENDS_TAG = {("DELETE", "/repositories/{repository}/tags/{tag}")}
ENDS_MANIFEST = {("DELETE", "/repositories/{repository}/manifests/{digest}")}


def fill_again(world: World, place: str, word: str) -> dict[str, str]:
    """A tag, a manifest and a blob of their own in a repository."""
    client, name = world.pusher, world.ours.names[place]
    blob = client.push_blob(name, word.encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
        "annotations": {"word": word},
    }
    digest = client.push_manifest(name, word, manifest)
    return {"tag": word, "reference": word, "digest": digest, "blob": blob}


def path_of(template: str, values: Mapping[str, str]) -> str:
    """A template with its words replaced."""
    path = template.partition("#")[0].replace("[/]", "/")
    for word, value in values.items():
        path = path.replace(f"{{{word}}}", quote(value, safe="/:@"))
    assert "{" not in path, path
    return path


def full_path(path: str) -> str:
    """A path of the table below /api."""
    return f"/api/v1{path}".replace("/v1/..", "")


def prepare_management(
    world: World,
    row: tuple[str, str],
    *,
    place: str = "linked",
    is_allowed: bool,
    extra: Mapping[str, Any] | None = None,
    ask: Ask | None = None,
) -> dict[str, Any]:
    """What to send for a row of the management API; `extra` goes into its body."""
    method, template = row
    ask = ask or MANAGEMENT.get(row, Ask())
    values = world.ours.values(place)
    if ask.values:
        values |= ask.values(world)
    if is_allowed and ask.fresh:
        values |= ask.fresh(world)
    if is_allowed and row in ENDS_TAG | ENDS_MANIFEST:
        values |= fill_again(world, place, world.word())
    url = full_path(path_of(template, values))
    request: dict[str, Any] = {"method": method, "url": url, "headers": dict(ask.headers or {})}
    body = ask.fresh_body if is_allowed and ask.fresh_body else ask.body
    body = body(world) if callable(body) else body
    if body is not None or extra:
        request["json"] = {**(body or {}), **(extra or {})}
    return request


def ask_management(
    world: World, row: tuple[str, str], headers: Mapping[str, str], **how: Any
) -> httpx.Response:
    """Ask a row of the management API."""
    return sent(world, prepare_management(world, row, **how), headers)


def sent(world: World, request: dict[str, Any], headers: Mapping[str, str]) -> httpx.Response:
    """Send what was prepared."""
    return world.http.request(**request | {"headers": {**request["headers"], **headers}})


def expected_of(row: tuple[str, str]) -> frozenset[int]:
    """What somebody who was let in is answered."""
    return MANAGEMENT.get(row, Ask()).only_allowed


def ask_protocol(
    world: World, row: tuple[str, str], headers: Mapping[str, str], **how: Any
) -> httpx.Response:
    """Ask a row of /v2/."""
    return sent(world, prepare_protocol(world, row, **how), headers)


def prepare_protocol(
    world: World, row: tuple[str, str], *, place: str, is_allowed: bool, token_id: int = 0
) -> dict[str, Any]:
    """What to send for a row of /v2/."""
    method, template = row
    values = world.ours.values(place)
    if template.endswith("#digest"):
        values["reference"] = values["digest"]
    if "/blobs/{digest}" in template:
        values["digest"] = world.ours.blob
    if is_allowed and method == "DELETE" and "{upload}" not in template:
        made = fill_again(world, place, world.word())
        values["reference"] = made["digest" if template.endswith("#digest") else "tag"]
        values["digest"] = made["blob"]
    options: dict[str, Any] = {"method": method, "headers": {}}
    if "{upload}" in template:
        values["upload"] = world.upload(place, token_id if is_allowed else None)
        if method == "PUT":
            options["params"] = {"digest": world.ours.blob}  # not that of what was sent
        if is_allowed and method == "DELETE":
            del world.uploads[place, token_id]
    if method == "PATCH":
        options["content"] = b"bytes"
    if method == "PUT" and "manifests" in template:
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [],
            "annotations": {"word": world.word()},
        }
        options["content"] = json.dumps(index).encode()
        options["headers"] = {"content-type": str(index["mediaType"])}
        values["reference"] = "pushed" if is_allowed else "v1"
    return options | {"url": path_of(template, values)}


# An empty upload that is finished as what it is not.
PROTOCOL_ANSWERS = {("PUT", "/v2/{name}/blobs/uploads/{upload}"): frozenset({400})}
