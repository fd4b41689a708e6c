"""A real Entrepot server before played upstreams, and a client that sees where a body breaks off."""

import hashlib
import http.client
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.caller import Caller
from tests.protocol.registry import Registry
from tests.support.eventually import eventually
from tests.support.kept import Kept, KeptFiles
from tests.support.server import Client, Server, basic, running_server
from tests.support.upstreams import WireServer

LOOPBACK = {"ENTREPOT_OUTBOUND__ALLOW": "127.0.0.1/32"}
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """An answer as far as it came. `is_complete` is what the framing says of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool

    @property
    def error(self) -> str:
        """The code and the sentence of an error."""
        return self.body.decode(errors="replace")


class Cache:
    """One pull-through repository, as those who may pull see it."""

    def __init__(
        self, stand: "Stand", name: str, upstream: dict[str, Any], token: str, made: str = ""
    ) -> None:
        self.id = made  # in the API; empty where a pull makes it
        self.stand = stand
        self.name = name
        self.upstream = upstream
        self.token = token

    def get(self, path: str, method: str = "GET", **headers: str) -> Received:
        """Ask below /v2/NAME/; what came, whole or not. Status 0: not even headers."""
        try:
            with self.opened(path, method, **headers) as answer:
                return received(answer)
        except http.client.RemoteDisconnected:
            return Received(0, {}, b"", is_complete=False)

    def manifest(self, reference: str, **options: str) -> Received:
        return self.get(f"manifests/{reference}", **options)

    def blob(self, digest: str, **options: str) -> Received:
        return self.get(f"blobs/{digest}", **options)

    @contextmanager
    def opened(
        self, path: str, method: str = "GET", **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.stand.registry.server.port, timeout=_PATIENCE
        )
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, f"/v2/{self.name}/{path}", headers=basic(self.token) | named)
            yield connection.getresponse()
        finally:
            connection.close()

    def has(self, digest: str) -> bool:
        """Whether the repository holds a blob in the database."""
        return bool(
            self.stand.registry.rows(
                """
                SELECT 1
                  FROM blob_links
                 WHERE digest = :digest
                   AND deleted_at IS NULL
                """,
                digest=digest,
            )
        )


class Stand:
    """The server, its administrator, and what tests set up on it."""

    def __init__(self, registry: Registry, kept: Kept | None = None) -> None:
        self.registry = registry
        self.kept = kept or KeptFiles(self.data)
        self.admin = Caller(registry, registry.server.token, "admin")
        self.pusher = Client(registry.server, token=registry.server.token)

    def close(self) -> None:
        self.admin.close()
        self.pusher.close()

    def add_upstream(
        self, upstream: WireServer | str, organisation: str = "main", **fields: Any
    ) -> dict[str, Any]:
        """Save an upstream, which is checked by that."""
        url = upstream if isinstance(upstream, str) else upstream.origin
        body = {"name": f"up-{secrets.token_hex(4)}", "url": url, **fields}
        return self.admin.made(f"/organisations/{organisation}/upstreams", body)

    def cache(
        self,
        upstream: WireServer,
        path: str = "library/app",
        *,
        organisation: str = "main",
        freshness: int = 60,
        policies: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Cache:
        """A new upstream and a pull-through repository of one of its paths."""
        saved = self.add_upstream(upstream, organisation, **fields)
        return self.cache_of(
            saved, path, organisation=organisation, freshness=freshness, **(policies or {})
        )

    def cache_of(
        self, saved: dict[str, Any], path: str, *, organisation: str = "main", **fields: Any
    ) -> Cache:
        """A pull-through repository of a saved upstream."""
        name = f"cache/{secrets.token_hex(5)}"
        body = {"path": name, "upstream": {"name": saved["name"], "path": path, **fields}}
        made = self.admin.made(f"/organisations/{organisation}/repositories", body)
        prefix = "" if organisation == "main" else f"{organisation}/"
        return Cache(self, f"{prefix}{name}", saved, self.registry.server.token, made["id"])

    def delete(self, cache: Cache) -> None:
        """Delete a repository."""
        version = self.admin.get(f"/repositories/{cache.id}").headers["etag"]
        gone = self.admin.delete(f"/repositories/{cache.id}", headers={"if-match": version})
        assert gone.status_code == 204, gone.text

    def organisation(self) -> str:
        """The slug of a new organisation."""
        slug = f"org-{secrets.token_hex(5)}"
        self.admin.made("/organisations", {"slug": slug})
        return slug

    def state_of(self, upstream: dict[str, Any]) -> dict[str, Any]:
        """What the API says of how an upstream is doing."""
        answer = self.admin.get(f"/upstreams/{upstream['id']}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def check(self, upstream: dict[str, Any]) -> dict[str, Any]:
        """Have an upstream tried now, which ends a pause after failures."""
        answer = self.admin.post(f"/upstreams/{upstream['id']}/check")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.registry.server.data

    @property
    def blobs(self) -> Path:
        """Where the objects are, if not in a bucket."""
        return self.data / "blobs"

    def spools(self) -> list[Path]:
        """Files of fetches that are under way, or were left behind."""
        folder = self.data / "spool"
        return [path for path in folder.glob("**/*") if path.is_file()] if folder.exists() else []

    def wait_for_no_spools(self) -> None:
        """Until no fetch has a file any more, and what came of it is in the database."""
        eventually(lambda: not any(self._left()), missing=self._left)

    def _left(self) -> tuple[list[Path], list[Any]]:
        rows = self.registry.rows("SELECT id, leader, node, node_url, beat, size FROM fetches")
        return self.spools(), rows

    def rehash(self) -> None:
        """Hash every object of the store, and know each one by a blob that has its digest.

        But not those that wait to be deleted: some were damaged.
        """
        rows = self.registry.rows("SELECT storage_key, digest FROM blobs")
        known = dict(rows)
        buried = {key for (key,) in self.registry.rows("SELECT storage_key FROM tombstones")}
        for key in self.kept.objects().keys() - buried:
            running = hashlib.sha256()
            for piece in self.kept.read(key):
                running.update(piece)
            found = f"sha256:{running.hexdigest()}"
            assert key in known, f"nobody knows the object {key}"
            assert known[key] == found, f"{known[key]} holds other bytes: {found}"
        for digest, body in self.registry.rows("SELECT digest, body FROM manifests"):
            content = body.encode() if isinstance(body, str) else bytes(body)
            assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}", "a wrong manifest"


@contextmanager
def stood(folder: Path, *, database_url: str = "", **environment: str) -> Iterator[Stand]:
    """A server that may reach upstreams at 127.0.0.1; all of its store is hashed in the end."""
    environment = {**LOOPBACK, **environment}
    with (
        running_server(folder, database_url=database_url, environment=environment) as server,
        standing(server) as stand,
    ):
        yield stand


@contextmanager
def standing(server: Server, kept: Kept | None = None) -> Iterator[Stand]:
    """What stands before a server; all of its store is hashed in the end."""
    stand = Stand(Registry(server, ""), kept)
    try:
        yield stand
        stand.wait_for_no_spools()
        stand.rehash()
    finally:
        stand.close()


def received(answer: http.client.HTTPResponse) -> Received:
    """Read an answer to its end, or to where it breaks off."""
    pieces = []
    is_complete = True
    try:
        while piece := answer.read1(65536):
            pieces.append(piece)
    except (http.client.IncompleteRead, ConnectionError, TimeoutError) as error:
        is_complete = False
        pieces.append(getattr(error, "partial", b""))
    body = b"".join(pieces)
    headers = {key.lower(): value for key, value in answer.getheaders()}
    if answer.length:  # what is missing; read1 does not say it
        is_complete = False
    with suppress(OSError):
        answer.close()
    return Received(answer.status, headers, body, is_complete)


def seconds_of(begun: float) -> float:
    """How long ago that was."""
    return time.monotonic() - begun
