"""Two organisations with everything in them, and everybody who may try to get at the first."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from entrepot.identity.bearer import BearerClaims
from entrepot.identity.tokens import hash_token
from entrepot.model.clock import HOUR, SystemClock
from entrepot.model.ids import from_text, to_text
from tests.protocol.registry import Registry
from tests.support.server import OCI_MANIFEST, Client, basic, digest_of
from tests.support.upstreams import ScriptedUpstream

CONTENT = frozenset({"pull", "push", "delete"})
PASSWORD = "correct horse battery staple"  # of every user who has one
# Where repositories are: the builds of the project, a repository that it is linked to, one that it
# is not linked to, and one that everybody may pull.
PLACES = ("builds", "linked", "other", "public")
PATHS = {"linked": "team/app", "other": "team/web", "public": "team/open", "spare": "team/spare"}


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organisation, and one of each thing that it can hold."""

    slug: str
    id: str
    project: str
    other_project: str
    users: Mapping[str, str]  # role: name
    secrets: Mapping[str, str]  # role: token
    repositories: Mapping[str, str]  # place: id
    names: Mapping[str, str]  # place: name at /v2/
    manifest: str
    blob: str
    tokens: Mapping[str, str]  # kind: id
    upstreams: Mapping[str, str]  # for whom: id
    mirror: str
    invitation: str

    def values(self, place: str = "linked") -> dict[str, str]:
        """What stands for the words of a path."""
        return {
            "organisation": self.slug,
            "project": self.project,
            "repository": self.repositories[place],
            "name": self.names[place],
            "tag": "v1",
            "reference": "v1",
            "digest": self.manifest,
            "user": self.users["reader"],
            "token": self.tokens["org"],
            "upstream": self.upstreams["admins"],
            "mirror": self.mirror,
            "invitation": self.invitation,
        }


@dataclass(slots=True)
class World:
    """A server with two organisations. `owner` may do everything in the first."""

    registry: Registry
    ours: Tenant
    theirs: Tenant
    principals: Mapping[str, str | None]  # name: token
    http: httpx.Client
    upstream: ScriptedUpstream
    pusher: Client  # the owner's
    made: int = 0
    uploads: dict[tuple[str, int], str] = field(default_factory=dict)
    open_invitation: str = ""
    token_ids: dict[str, int] = field(default_factory=dict)

    def word(self) -> str:
        """Something that nothing is called yet."""
        self.made += 1
        return f"n{self.made}-{secrets.token_hex(4)}"

    def ask(
        self, method: str, path: str, token: str | None = None, **options: Any
    ) -> httpx.Response:
        """One request to the management API, by Basic."""
        headers = dict(options.pop("headers", {}))
        if token:
            headers |= basic(token)
        return self.http.request(method, f"/api/v1{path}", headers=headers, **options)

    def as_owner(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """A request of the first organisation's owner, which has to succeed."""
        return self._made(self.ours.secrets["owner"], method, path, body, **options)

    def as_operator(self, method: str, path: str, body: Any = None) -> Any:
        """A request of the administrator of the first start, which has to succeed."""
        return self._made(self.registry.server.token, method, path, body)

    def _made(self, token: str, method: str, path: str, body: Any, **options: Any) -> Any:
        if body is not None:
            options["json"] = body
        answer = self.ask(method, path, token, **options)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def new_organisation(self) -> str:
        """A new organisation of the operator's."""
        slug = self.word()
        self.as_operator("POST", "/organisations", {"slug": slug})
        return slug

    def new_invitation(self) -> str:
        """The secret of an invitation to an organisation that is of no interest."""
        path = f"/organisations/{self.new_organisation()}/invitations"
        secret: str = self.as_operator("POST", path, {})["invitation"]
        return secret

    def token_id(self, token: str) -> int:
        """The row of a token."""
        if token not in self.token_ids:
            rows = self.registry.rows(
                "SELECT id FROM tokens WHERE hash = :hash", hash=hash_token(token)
            )
            self.token_ids[token] = rows[0][0]
        return self.token_ids[token]

    def signed(self, token: str | None, access: dict[str, frozenset[str]]) -> str:
        """A bearer token of ours that covers `access`, whatever its owner may do."""
        now = SystemClock().now()
        claims = BearerClaims(
            self.token_id(token) if token else 0,
            f"127.0.0.1:{self.registry.server.port}",
            access,
            now,
            now + HOUR,
        )
        return self.registry.key.sign(claims)

    def issued(self, token: str | None, *scopes: str) -> str | None:
        """The bearer token that our token service issues; None where it refuses."""
        answer = self.http.get(
            "/v2/token",
            params={"service": self.registry.host, "scope": list(scopes)},
            headers=basic(token) if token else {},
        )
        if answer.status_code == 401:
            return None
        text: str = answer.json()["token"]
        return text

    def upload(self, place: str, token_id: int | None) -> str:
        """An open session in a repository: the owner's, or one of the credential in this row."""
        key = (place, token_id if token_id is not None else -1)
        if key not in self.uploads:
            begun = self.pusher.request("POST", f"/v2/{self.ours.names[place]}/blobs/uploads/")
            self.uploads[key] = begun.headers["location"].rpartition("/")[2]
            if token_id is not None:
                self.registry.change(
                    "UPDATE uploads SET token_id = :token_id WHERE id = :upload",
                    token_id=token_id,
                    upload=self.uploads[key],
                )
        return self.uploads[key]

    def close(self) -> None:
        self.http.close()
        self.pusher.close()
        self.upstream.stop()


def make_world(registry: Registry) -> World:
    http = httpx.Client(base_url=registry.url, timeout=60, verify=registry.server.trust)
    upstream = ScriptedUpstream()
    upstream.start()
    ours, theirs = (make_tenant(registry, http, upstream) for _ in range(2))
    pusher = Client(registry.server, token=ours.secrets["owner"])
    world = World(registry, ours, theirs, {}, http, upstream, pusher)
    world.principals = _principals(world)
    world.open_invitation = world.new_invitation()
    world.as_operator("PUT", "/password", {"new": PASSWORD})
    return world


def make_tenant(
    registry: Registry, http: httpx.Client, upstream: ScriptedUpstream | None = None
) -> Tenant:
    operator = basic(registry.server.token)
    slug = f"org-{secrets.token_hex(5)}"
    organisation = _post(http, "/organisations", {"slug": slug}, operator)
    users, tokens = {}, {}
    for role in ("reader", "member", "admin", "owner", "spare"):
        users[role] = _user(registry, http)
        join(registry, slug, users[role], "reader" if role == "spare" else role)
        tokens[role] = registry.new_token("user", user=users[role])
    owner = basic(tokens["owner"])
    project, other_project = registry.new_project(slug), registry.new_project(slug)
    names = {place: f"{slug}/{path}" for place, path in PATHS.items()} | {"builds": project}
    client = Client(registry.server, token=tokens["owner"])
    manifest, blob = _fill(client, names.values())
    client.close()
    listed = http.get(f"/api/v1/organisations/{slug}/repositories", headers=owner).json()["items"]
    by_path = {item["path"]: item["id"] for item in listed}
    repositories = {place: by_path[path] for place, path in PATHS.items()}
    repositories["builds"] = by_path[project]
    for path in (
        f"/projects/{project}/repositories/{repositories['linked']}",
        f"/projects/{project}/repositories/{repositories['spare']}",
    ):
        assert http.put(f"/api/v1{path}", headers=owner).is_success
    opened = http.patch(
        f"/api/v1/repositories/{repositories['public']}", json={"is_public": True}, headers=owner
    )
    assert opened.is_success, opened.text
    made = {
        kind: _post(http, f"/organisations/{slug}/tokens", {"kind": kind, **rest}, owner)["id"]
        for kind, rest in {"org": {}, "project": {"project": project}, "pull": {}}.items()
    }
    made["user"] = _post(http, "/tokens", {}, owner)["id"]
    upstreams = {
        whom: _post(
            http,
            f"/organisations/{slug}/upstreams",
            {"name": whom, "url": upstream.origin, "member_patterns": patterns},
            owner,
        )["id"]
        for whom, patterns in (("admins", []), ("members", ["library/*"]))
        if upstream is not None
    }
    mirror = ""
    if upstream is not None:
        mirrors = f"/organisations/{slug}/mirrors"
        mirror = _post(http, mirrors, {"prefix": "mirrored", "upstream": "members"}, owner)["id"]
        below = {"prefix": "opened", "upstream": "members", "deny": ["closed/**"]}
        _post(http, mirrors, {**below, "is_public": True}, owner)
    invited = _post(http, f"/organisations/{slug}/invitations", {}, owner)
    return Tenant(
        slug=slug,
        id=organisation["id"],
        project=project,
        other_project=other_project,
        users=users,
        secrets=tokens,
        repositories=repositories,
        names=names,
        manifest=manifest,
        blob=blob,
        tokens=made,
        upstreams=upstreams,
        mirror=mirror,
        invitation=invited["id"],
    )


def _principals(world: World) -> dict[str, str | None]:
    """Everybody, in the order of the table's columns."""
    registry, ours, theirs = world.registry, world.ours, world.theirs
    new, slug, owner = registry.new_token, world.ours.slug, world.ours.users["owner"]
    lapsed, disabled, administrator = (_user(registry, world.http) for _ in range(3))
    join(registry, slug, lapsed, "owner", expires_at=1)
    join(registry, slug, disabled, "owner")
    registry.change("UPDATE users SET is_administrator = 1 WHERE name = :n", n=administrator)
    found: dict[str, str | None] = {
        "nobody": None,
        **{role: ours.secrets[role] for role in ("reader", "member", "admin", "owner")},
        "stranger": theirs.secrets["owner"],
        "administrator": new("user", user=administrator),
        "lapsed": new("user", user=lapsed),
        "disabled": new("user", user=disabled),
        "organisation": new("org", slug),
        "managing": new("org", slug, may_manage=True),
        "foreign": new("org", theirs.slug, may_manage=True),
        "project": new("project", slug, project=ours.project),
        "other project": new("project", slug, project=ours.other_project),
        "pull of project": new("pull", slug, project=ours.project),
        "pull of organisation": new("pull", slug),
        "pull of pattern": new("pull", slug, patterns=("team/**",)),
        "owner, pull": new("user", user=owner, actions=frozenset({"pull"})),
        "owner, elsewhere": new("user", user=owner, patterns=("elsewhere/**",)),
        "owner, content": new("user", user=owner, actions=CONTENT),
        "managing, team": new("org", slug, may_manage=True, patterns=("team/**",)),
        "managing, content": new("org", slug, may_manage=True, actions=CONTENT),
        "administrator, pull": new("user", user=administrator, actions=frozenset({"pull"})),
        "expired": new("user", user=owner, is_expired=True),
        "revoked": new("org", slug, may_manage=True),
        "bearer": ours.secrets["owner"],
    }
    registry.change("UPDATE users SET disabled_at = 1 WHERE name = :name", name=disabled)
    for token in found.values():
        if token:
            world.token_id(token)
    revoked = found["revoked"]
    assert revoked
    registry.revoke(revoked)
    return found


def join(
    registry: Registry, slug: str, user: str, role: str, *, expires_at: int | None = None
) -> None:
    """Make a user a member, as an invitation would."""
    registry.change(
        """
        INSERT INTO memberships (organisation_id, user_id, role, created_at, expires_at)
        SELECT o.id, u.id, :role, 0, CAST(:expires_at AS BIGINT)
          FROM organisations AS o
         CROSS JOIN users AS u
         WHERE o.slug = :slug
           AND u.name = :name
        """,
        slug=slug,
        name=user,
        role=role,
        expires_at=expires_at,
    )


def random_id(like: str) -> str:
    """An id that is nobody's, of the same form."""
    if from_text(like) is not None:
        return to_text(secrets.randbits(62))
    if like.startswith("sha256:"):
        return digest_of(secrets.token_bytes(9))
    return "".join(
        secrets.choice("0123456789bcdfghjklmnpqrstvwxz") if letter.isalnum() else letter
        for letter in like
    )


def _user(registry: Registry, http: httpx.Client) -> str:
    name = f"user-{secrets.token_hex(5)}"
    _post(http, "/users", {"name": name}, basic(registry.server.token))
    return name


def _post(http: httpx.Client, path: str, body: Any, headers: Mapping[str, str]) -> Any:
    answer = http.post(f"/api/v1{path}", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def _fill(client: Client, names: Any) -> tuple[str, str]:
    """The same image in each repository; its manifest, and its layer."""
    config, layer = b"{}", secrets.token_bytes(200)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest_of(layer),
                "size": len(layer),
            }
        ],
    }
    body = json.dumps(manifest).encode()
    for name in names:
        client.push_blob(name, config)
        client.push_blob(name, layer)
        client.push_manifest(name, "v1", body, OCI_MANIFEST)
    return digest_of(body), digest_of(layer)
