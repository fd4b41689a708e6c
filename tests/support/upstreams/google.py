"""Google Artifact Registry, played from its documentation.

"[A]" is cloud.google.com/artifact-registry/docs/docker/authentication, "[P]" is
cloud.google.com/artifact-registry/docs/docker/pushing-and-pulling, "[K]" is what clients' sources
and error reports show.
"""

import base64
import json
import secrets
from typing import Any

from tests.support.upstreams.credentials import (
    BearerLogin,
    Realm,
    basic_pair,
    refusal,
)
from tests.support.upstreams.log import Entry
from tests.support.upstreams.scripted import ScriptedUpstream, ranged
from tests.support.upstreams.wire import Reply, Request

_PERMISSION = "artifactregistry.repositories.downloadArtifacts"
_DOWNLOADS = "/artifacts-downloads/"


class ArtifactRegistry(ScriptedUpstream):
    """`LOCATION-docker.pkg.dev`; a name is PROJECT/REPOSITORY/IMAGE, three components at least [P].

    - The realm is `https://HOST/v2/token`, the service is the host [K].
    - The user `_json_key` has the key file as it is for a password; `_json_key_base64` has it in
      base64 [A]. "The username is case sensitive" in that no other one is known.
    - The user `oauth2accesstoken` has an access token for a password, which is "valid for 60
      minutes" [A].
    - A key that was deleted is refused by the realm: 401 [K].
    - The realm knows GET alone: POST is 404 [K].
    - Who lacks the permission `artifactregistry.repositories.downloadArtifacts` gets 403 DENIED with
      its name from the registry, with a good token, as does nobody for what is not public [K].
    - Blobs are redirected (302) to `/artifacts-downloads/` of the same host, where a bearer token
      may come along [K].
    - `tags/list` has `manifest` and `child` beside `tags` [K].
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.realm = Realm(anonymous=True)
        self.login = BearerLogin(self.realm, lambda: f"{self.origin}/v2/token")
        self.readers: dict[str, set[str]] = {}  # account -> repositories it may read
        self.public: set[str] = set()
        self._keys: dict[str, dict[str, str]] = {}  # key id -> key file
        self._access_tokens: dict[str, tuple[str, float]] = {}

    def add_account(self, email: str, *names: str) -> str:
        """A service account that may read these repositories; its key file."""
        key = {
            "type": "service_account",
            "project_id": "played",
            "private_key_id": secrets.token_hex(20),
            "private_key": "-----BEGIN PRIVATE KEY-----\nplayed+/=\n-----END PRIVATE KEY-----\n",
            "client_email": email,
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        self._keys[key["private_key_id"]] = key
        self.readers[email] = set(names)
        return json.dumps(key, indent=2)

    def delete_keys(self) -> None:
        """Every key file stops working."""
        self._keys.clear()

    def make_access_token(self, email: str, life: float = 3600) -> str:
        """What `gcloud auth print-access-token` prints."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._access_tokens[token] = (email, self.realm.now() + life)
        return token

    def describe(self, request: Request, entry: Entry) -> None:
        super().describe(request, entry)
        if request.path == "/v2/token":
            entry.kind = "token"
        elif request.path.startswith(_DOWNLOADS):
            entry.kind = "download"

    def right_answer(self, request: Request, entry: Entry) -> Reply:
        self.realm.service = self.address
        if entry.kind == "token":
            return self._give_token(request)
        if entry.kind == "download":
            return self._download(request)
        refused = self.login.refuse(request, entry.name)
        if refused is not None:
            return refused
        ticket = self.realm.ticket(request.headers["authorization"].partition(" ")[2])
        assert ticket is not None
        if entry.name and not self._may_read(ticket.user, entry.name):
            who = "Unauthenticated requests do" if not ticket.user else "This account does"
            return refusal(403, "DENIED", f'{who} not have permission "{_PERMISSION}"')
        reply = super().right_answer(request, entry)
        if entry.kind == "blob" and reply.status in {200, 206} and request.method == "GET":
            return Reply(302, {"Location": f"{_DOWNLOADS}{entry.name}/{entry.reference}"})
        if entry.kind == "tags" and reply.status == 200:
            assert isinstance(reply.body, bytes)
            extra: dict[str, Any] = {"manifest": {}, "child": []}
            reply.body = json.dumps({**json.loads(reply.body), **extra}).encode()
        return reply

    def _may_read(self, user: str, name: str) -> bool:
        return name in self.public or name in self.readers.get(user, ())

    def _give_token(self, request: Request) -> Reply:
        if request.method != "GET":
            return Reply(404, {"Content-Type": "text/html"}, b"<title>404</title>")
        if request.query.get("service") != [self.address]:
            return refusal(400, "UNSUPPORTED", "unknown service")
        user = ""
        if "authorization" in request.headers:
            user = self._account(request.headers["authorization"])
            if not user:
                return refusal(401, "UNAUTHORIZED", "authentication failed")
        return self.realm.give(user, request.query.get("scope", []))

    def _account(self, authorization: str) -> str:
        """Whose credential this is; empty if nobody's."""
        user, password = basic_pair(authorization) or ("", "")
        if user == "oauth2accesstoken":
            email, expires = self._access_tokens.get(password, ("", 0.0))
            return email if expires > self.realm.now() else ""
        try:
            if user == "_json_key_base64":
                password = base64.b64decode(password, validate=True).decode()
            elif user != "_json_key":
                return ""
            key = json.loads(password)
        except ValueError:
            return ""
        known = self._keys.get(key.get("private_key_id", ""))
        return known["client_email"] if known is not None and known == key else ""

    def _download(self, request: Request) -> Reply:
        name, _, digest = request.path.removeprefix(_DOWNLOADS).rpartition("/")
        content = self.repositories.get(name)
        if content is None or digest not in content.blobs:
            return Reply(404, {"Content-Type": "text/plain"}, b"not found")
        return ranged(request, content.blobs[digest], {})
