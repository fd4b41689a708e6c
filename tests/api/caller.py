"""Somebody who asks the management API, and how to make such people."""

import secrets
from dataclasses import dataclass

import httpx

from tests.protocol.registry import Registry


class Caller:
    """One caller, by Bearer with a token or without any. Paths are those below /api/v1."""

    def __init__(self, registry: Registry, token: str | None = None, name: str = ""):
        self.registry = registry
        self.token = token
        self.name = name
        self.http = httpx.Client(
            base_url=f"{registry.url}/api/v1", timeout=60, verify=registry.server.trust
        )

    def request(self, method: str, path: str, body=None, **options) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        if body is not None:
            options["json"] = body
        return self.http.request(method, path, headers=headers, **options)

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body=None, **options) -> httpx.Response:
        return self.request("POST", path, body if body is not None else {}, **options)

    def patch(self, path: str, body, **options) -> httpx.Response:
        return self.request("PATCH", path, body, **options)

    def put(self, path: str, body=None, **options) -> httpx.Response:
        return self.request("PUT", path, body, **options)

    def delete(self, path: str, **options) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def made(self, path: str, body=None) -> dict:
        """What a creation answers; it has to succeed."""
        answer = self.post(path, body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def items(self, path: str) -> list[dict]:
        """The first part of a list."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    def close(self) -> None:
        self.http.close()


@dataclass
class People:
    """Makes organisations and users of a test's own."""

    registry: Registry
    callers: list[Caller]

    def caller(self, token: str | None = None, name: str = "") -> Caller:
        made = Caller(self.registry, token, name)
        self.callers.append(made)
        return made

    @property
    def nobody(self) -> Caller:
        return self.caller()

    @property
    def admin(self) -> Caller:
        """The administrator of the first start."""
        return self.caller(self.registry.server.token, "admin")

    def user(self, *, is_administrator: bool = False, password: str | None = None) -> Caller:
        """Somebody new, by a token without limits, in no organisation."""
        name = f"user-{secrets.token_hex(5)}"
        body = {"name": name, "is_administrator": is_administrator, "password": password}
        self.admin.made("/users", body)
        return self.caller(self.registry.new_token("user", user=name), name)

    def organisation(self) -> str:
        """The slug of a new organisation, whose owner is the administrator of the first start."""
        slug = f"org-{secrets.token_hex(5)}"
        self.admin.made("/organisations", {"slug": slug})
        return slug

    def member(self, organisation: str, role: str = "member") -> Caller:
        """Somebody new who joined."""
        user = self.user()
        made = self.admin.made(f"/organisations/{organisation}/invitations", {"role": role})
        user.made("/invitations/accept", {"invitation": made["invitation"]})
        return user

    def audit(self, organisation: str | None = None, **filters: str) -> list[dict]:
        """What the log of an organisation, or of the server, says; newest first."""
        path = f"/organisations/{organisation}/audit" if organisation else "/audit"
        answer = self.admin.get(path, params=filters)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    def actions(self, organisation: str) -> list[str]:
        """What was done to an organisation, by name; newest first."""
        return [event["action"] for event in self.audit(organisation)]


def pull(client, name, tag="v1", **options):
    """The status of what a client of the protocol gets for a tag."""
    return client.request("GET", f"/v2/{name}/manifests/{tag}", **options).status_code
