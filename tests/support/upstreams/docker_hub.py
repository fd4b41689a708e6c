"""Docker Hub, played from its documentation: three hosts, one limit.

Each rule says where it is written. "[D]" is docs.docker.com/docker-hub/usage/pulls/, "[T]" is
distribution.github.io/distribution/spec/auth/token/, "[K]" is what clients' sources show.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.upstreams.credentials import BearerLogin, Realm, RealmServer
from tests.support.upstreams.log import Entry
from tests.support.upstreams.scripted import BlobHost, ScriptedUpstream
from tests.support.upstreams.wire import Reply, Request

ANONYMOUS_LIMIT = 100  # "100 per IPv4 address or IPv6 /64 subnet" [D]
PERSONAL_LIMIT = 200  # "Personal (authenticated): 200" [D]
WINDOW = 21600  # "100 pulls per 21600 seconds (6 hours)" [D]
REFUSED = (  # the body of the 429, word for word [D]
    b"You have reached your pull rate limit. You may increase the limit by authenticating and"
    b" upgrading: https://www.docker.com/increase-rate-limits\n"
)


class DockerHub(ScriptedUpstream):
    """registry-1.docker.io; `auth` is auth.docker.io, `cdn` where blobs come from.

    - An official image is below `library/`: a name of one component is no repository, and asking
      for one is like asking for one that may not be read [K].
    - The realm is on another host, `https://auth.docker.io/token`, the service is
      `registry.docker.io` [D, step 1]. It answers GET; POST is not offered everywhere [K].
    - Without a user the realm gives a token for public repositories [D]. A user proves himself to it
      by Basic with his password or an access token [D]; a wrong one is 401.
    - A scope that the caller may not have is left out of the token, which is no error [T]; what is
      asked with such a token is 401 `insufficient_scope`. A repository that does not exist cannot be
      told from a private one that way.
    - A token lives 300 seconds, said in `expires_in` and counted from `issued_at` [T].
    - "Using GET emulates a real pull and counts towards the limit. Using HEAD won't" [D]: manifests
      alone count, by user, or by address for nobody.
    - `ratelimit-limit: 100;w=21600`, `ratelimit-remaining` and `docker-ratelimit-source` come with
      the answers for manifests [D].
    - Past the limit: 429 with a text body "when the manifest is requested" [D].
    - Blobs are redirected (307) to another host with a signed address, which refuses a second way of
      authentication [K].
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.realm = Realm(service="registry.docker.io", may_read=self._may_read)
        self.auth = RealmServer(self.realm)
        self.cdn = BlobHost()
        self.blob_host = self.cdn
        self.login = BearerLogin(self.realm, lambda: self.auth.url)
        self.private: dict[str, str] = {}  # repository -> user
        self.limits = {"": ANONYMOUS_LIMIT}
        self._pulls: dict[str, int] = {}
        self._lock = threading.Lock()

    def add_person(self, user: str, password: str, limit: int = PERSONAL_LIMIT) -> None:
        """An account, whose password may be a personal access token."""
        self.realm.people[user] = password
        self.limits[user] = limit

    @contextmanager
    def running(self) -> Iterator["DockerHub"]:
        with self.auth.running(), self.cdn.running(), super().running():
            yield self

    def remaining(self, user: str = "") -> int:
        """How many pulls a user has left."""
        with self._lock:
            return self.limits[user] - self._pulls.get(user, 0)

    def _may_read(self, user: str, name: str) -> bool:
        return name in self.repositories and self.private.get(name, user) == user

    def right_answer(self, request: Request, entry: Entry) -> Reply:
        reply = super().right_answer(request, entry)
        if entry.kind != "manifest" or reply.status == 401:
            return reply
        user = self._user(request)
        with self._lock:
            is_over = self._pulls.get(user, 0) >= self.limits[user]
            if request.method == "GET" and not is_over:
                self._pulls[user] = self._pulls.get(user, 0) + 1
        headers = {
            "ratelimit-limit": f"{self.limits[user]};w={WINDOW}",
            "ratelimit-remaining": f"{self.remaining(user)};w={WINDOW}",
            "docker-ratelimit-source": user or "192.0.2.1",
        }
        if is_over and request.method == "GET":
            return Reply(429, {"Content-Type": "text/plain", **headers}, REFUSED)
        reply.headers = {**reply.headers, **headers}
        return reply

    def _user(self, request: Request) -> str:
        token = request.headers.get("authorization", "").partition(" ")[2]
        ticket = self.realm.ticket(token)
        assert ticket is not None, "a manifest without a ticket"
        return ticket.user
