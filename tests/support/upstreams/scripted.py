"""A registry to pull from, real enough for any client, whose every answer a test can spoil."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from tests.support.server import digest_of
from tests.support.upstreams.content import (
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    Content,
    Image,
    image_of,
    schema1_of,
)
from tests.support.upstreams.credentials import (
    BearerLogin,
    Login,
    NoLogin,
    Realm,
    refusal,
)
from tests.support.upstreams.faults import Fault
from tests.support.upstreams.log import Entry
from tests.support.upstreams.wire import Reply, Request, WireServer

_ROUTE = re.compile(
    r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)"
)
_KINDS = {"manifests": "manifest", "blobs": "blob", "tags": "tags", "referrers": "referrers"}
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(slots=True)
class Rule:
    """Where a fault strikes, and how often still (None: always)."""

    fault: Fault
    facts: Mapping[str, str]  # kind, method, name, reference, path: patterns
    left: int | None
    struck: int = 0

    def strikes(self, entry: Entry) -> bool:
        """Whether this request is hit."""
        return self.left != 0 and all(
            fnmatchcase(str(getattr(entry, key)), pattern) for key, pattern in self.facts.items()
        )


@dataclass(slots=True)
class Manners:
    """What is not wrong, but differs between registries."""

    has_referrers_api: bool = True
    tags_in_a_page: int = 1000
    sends_digest: bool = True  # Docker-Content-Digest
    answers_head_of_blobs: bool = True
    headers: dict[str, str] = field(default_factory=dict)  # on every answer


class ScriptedUpstream(WireServer):
    """A registry of the distribution specification that is read only for its clients."""

    def __init__(self, login: Login | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.login: Login = login or NoLogin()
        self.manners = Manners()
        self.blob_host: BlobHost | None = None
        self.repositories: dict[str, Content] = {}
        self._rules: list[Rule] = []

    # Putting content into it.

    def repository(self, name: str) -> Content:
        """A repository, made if there is none."""
        return self.repositories.setdefault(name, Content())

    def put_image(
        self,
        name: str,
        *tags: str,
        layers: Sequence[int | bytes] = (1_000,),
        extra: dict[str, Any] | None = None,
    ) -> Image:
        """Hold an image; layers are sizes of random bytes, or bytes."""
        content = self.repository(name)
        digests = [
            content.put_blob(layer) if isinstance(layer, bytes) else content.put_blob(size=layer)
            for layer in layers
        ]
        return self._hold(name, image_of(content, digests, extra=extra), tags)

    def put_image_of(self, name: str, *tags: str, layers: Sequence[str]) -> Image:
        """Hold an image of layers that the repository has already."""
        return self._hold(name, image_of(self.repository(name), list(layers)), tags)

    def put_index(
        self, name: str, *tags: str, platforms: Sequence[str] = ("amd64", "arm64")
    ) -> Image:
        """Hold an index with an image for each platform; its children are in its body."""
        content = self.repository(name)
        children = []
        for platform in platforms:
            image = self._hold(
                name, image_of(content, [content.put_blob()], architecture=platform), ()
            )
            children.append(
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": image.digest,
                    "size": len(image.body),
                    "platform": {"architecture": platform, "os": "linux"},
                }
            )
        return self._hold(
            name, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}, tags
        )

    def put_referrer(self, name: str, subject: Image, artifact_type: str, *tags: str) -> Image:
        """Hold an artifact, such as a signature, whose subject is an image."""
        about = {"mediaType": subject.media_type, "digest": subject.digest}
        extra = {"subject": about | {"size": len(subject.body)}, "artifactType": artifact_type}
        return self.put_image(name, *tags, extra=extra)

    def put_schema1(self, name: str, tag: str) -> str:
        """Hold a manifest of the first schema; its digest."""
        body = schema1_of(name, tag)
        return self.repository(name).put_manifest(body, tag, media_type=SCHEMA1)

    def _hold(self, name: str, document: dict[str, Any], tags: Sequence[str]) -> Image:
        digest = self.repository(name).put_manifest(document, *tags)
        media_type, body = self.repository(name).manifests[digest]
        return Image(
            name,
            digest,
            body,
            media_type,
            document.get("config", {}).get("digest", ""),
            tuple(layer["digest"] for layer in document.get("layers", ())),
        )

    # Spoiling it.

    def script(self, fault: Fault, *, times: int | None = None, **facts: str) -> Rule:
        """Spoil the next answers (`times` of them, or all) to the requests that fit.

        `kind` is ping, token, manifest, blob, tags or referrers; `method`, `name`, `reference` and
        `path` are patterns. The first rule that fits strikes. The log keeps the spoiled status.
        """
        rule = Rule(fault, facts, times)
        self._rules.append(rule)
        return rule

    def heal(self, rule: Rule | None = None) -> None:
        """Forget one fault, or all."""
        self._rules = [] if rule is None else [kept for kept in self._rules if kept is not rule]

    # Answering.

    async def answer(self, request: Request, entry: Entry) -> Reply:
        self.describe(request, entry)
        reply = self.right_answer(request, entry)
        reply.headers = {**reply.headers, **self.manners.headers}
        for rule in self._rules:
            if rule.strikes(entry):
                rule.struck += 1
                rule.left = None if rule.left is None else rule.left - 1
                return rule.fault(reply)
        return reply

    def describe(self, request: Request, entry: Entry) -> None:
        """Say in the log what was asked for."""
        match = _ROUTE.fullmatch(request.path)
        if match:
            entry.kind = _KINDS[match["kind"]]
            entry.name, entry.reference = match["name"], match["reference"]
        elif request.path in {"/v2", "/v2/"}:
            entry.kind = "ping"
        elif request.path == "/token":
            entry.kind = "token"
        else:
            entry.kind = "other"

    def right_answer(self, request: Request, entry: Entry) -> Reply:
        """What a registry without faults answers."""
        if entry.kind == "token" and isinstance(self.login, BearerLogin):
            return self.login.realm.exchange(request)
        if entry.kind == "other":
            return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        refused = self.login.refuse(request, entry.name)
        if refused is not None:
            return refused
        if entry.kind == "ping":
            return Reply(200, {"Content-Type": "application/json"}, b"{}")
        if request.method not in {"GET", "HEAD"}:
            return refusal(405, "UNSUPPORTED", "this registry is read only")
        if entry.name not in self.repositories:
            return refusal(404, "NAME_UNKNOWN", "repository name not known to registry")
        return self.content(self.repositories[entry.name], request, entry)

    def content(self, content: Content, request: Request, entry: Entry) -> Reply:
        """What a repository holds."""
        match entry.kind:
            case "manifest":
                return self.manifest(content, entry.reference)
            case "blob":
                return self.blob(content, request, entry.reference)
            case "tags":
                return self.tags(content, request, entry)
            case _:
                return self.referrers(content, entry.reference)

    def manifest(self, content: Content, reference: str) -> Reply:
        """By tag or digest."""
        digest = content.tags.get(reference, reference)
        if digest not in content.manifests:
            return refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, body = content.manifests[digest]
        headers = {"Content-Type": media_type}
        if self.manners.sends_digest:
            headers["Docker-Content-Digest"] = digest_of(body)
        return Reply(200, headers, body)

    def blob(self, content: Content, request: Request, digest: str) -> Reply:
        """Whole or from an offset, or where to get it."""
        if digest not in content.blobs:
            return refusal(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if request.method == "HEAD" and not self.manners.answers_head_of_blobs:
            return refusal(405, "UNSUPPORTED", "the operation is unsupported")
        body = content.blobs[digest]
        if self.blob_host is not None and request.method == "GET":
            return Reply(307, {"Location": self.blob_host.lend(digest, body)})
        return ranged(request, body, {"Docker-Content-Digest": digest})

    def tags(self, content: Content, request: Request, entry: Entry) -> Reply:
        """A page in the order of bytes, with a link to the next."""
        if entry.reference != "list":
            return refusal(404, "UNSUPPORTED", "no such page")
        last = request.query.get("last", [""])[0]
        asked = int(request.query.get("n", ["1000"])[0])
        size = min(asked, self.manners.tags_in_a_page)
        names = sorted(name for name in content.tags if name > last)
        headers = {"Content-Type": "application/json"}
        if len(names) > size:
            link = f"/v2/{entry.name}/tags/list?last={names[size - 1]}&n={asked}"
            headers["Link"] = f'<{link}>; rel="next"'
        body = json.dumps({"name": entry.name, "tags": names[:size]}).encode()
        return Reply(200, headers, body)

    def referrers(self, content: Content, digest: str) -> Reply:
        """An index of what has this as its subject."""
        if not self.manners.has_referrers_api:
            return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        found = content.referrers(digest)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return Reply(200, {"Content-Type": OCI_INDEX}, json.dumps(index).encode())


class BlobHost(WireServer):
    """Where a registry sends its clients for blobs: an object store with signed addresses.

    It refuses a second way of authentication beside the signature, as S3 does ("Only one auth
    mechanism allowed", 400 InvalidArgument).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lent: dict[str, bytes | Path] = {}
        self.faults: list[Fault] = []

    def lend(self, digest: str, body: bytes | Path) -> str:
        """A signed address for a blob."""
        path = f"/objects/{digest.replace(':', '/')}"
        self._lent[path] = body
        return f"{self.origin}{path}?X-Amz-Signature=played"

    async def answer(self, request: Request, entry: Entry) -> Reply:
        entry.kind = "blob"
        if "authorization" in request.headers or "cookie" in request.headers:
            return Reply(400, {"Content-Type": "application/xml"}, b"<Code>InvalidArgument</Code>")
        if request.path not in self._lent or request.query.get("X-Amz-Signature") != ["played"]:
            return Reply(403, {"Content-Type": "application/xml"}, b"<Code>AccessDenied</Code>")
        reply = ranged(request, self._lent[request.path], {})
        for fault in self.faults:
            reply = fault(reply)
        return reply


def ranged(request: Request, body: bytes | Path, headers: dict[str, str]) -> Reply:
    """A body, or the part of it that a Range header asks for (RFC 9110, section 14)."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    size = body.stat().st_size if isinstance(body, Path) else len(body)
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None:
        return Reply(200, headers, body)
    start, end = int(match[1]), min(int(match[2] or size - 1), size - 1)
    if start > end:
        return Reply(416, {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Reply(206, headers, body, offset=start, end=end + 1)


def bearer_upstream(realm: Realm | None = None, **options: Any) -> ScriptedUpstream:
    """A registry whose token realm is its own `/token`."""
    upstream = ScriptedUpstream(**options)
    upstream.login = BearerLogin(realm or Realm(), lambda: f"{upstream.origin}/token")
    return upstream


def realm_of(upstream: ScriptedUpstream) -> Realm:
    """The realm of an upstream that asks for bearer tokens."""
    return cast("BearerLogin", upstream.login).realm
