"""The whole registry against a model, step by step, on both databases; a third of it hostile."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from entrepot.app import Application
from entrepot.config import Settings
from entrepot.model.access import Kind
from entrepot.model.clock import SECOND
from entrepot.services.tokens import TokenRequest
from tests.state.registry_model import (
    ALL,
    BLOBS,
    COMMITTED_LIFE,
    DAY,
    DELETE,
    HOUR,
    PULL_LIFE,
    READ,
    SESSION_LIFE,
    TOKEN_LIFE,
    UNTAG,
    WRITE,
    Holdings,
    Manifest,
    Place,
    Session,
    Token,
    digest_of,
    image,
    index,
)
from tests.support.clock import FakeClock
from tests.support.invariants import check_invariants
from tests.support.server import OCI_INDEX, basic

HOST = "registry.test"
ABSENT = digest_of(b"nobody has pushed this")
TAGS = ["v1", "v2", "latest"]
PICK = st.integers(0, 20)
BLOB = st.integers(0, len(BLOBS) - 1)
SOME_BLOBS = st.lists(BLOB, max_size=2)
BEARER = st.sampled_from([False, False, True])


@dataclass(frozen=True)
class Address:
    """One way to name a place."""

    host: str
    name: str
    place: Place


def pick(candidates, number):
    return candidates[number % len(candidates)]


class RegistryMachine(RuleBasedStateMachine):
    new_registry: Callable[[str], AbstractContextManager[Settings]]

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.clock = FakeClock()
        self.holdings = defaultdict(Holdings)
        self.sessions = []
        self.pushed = []
        self.steps = []

    @initialize(anonymous=st.sampled_from(["", "pull"]))
    def start(self, anonymous):
        self.settings = self.stack.enter_context(self.new_registry(anonymous))
        self.open_app()
        run = self.runner.run
        for slug in ("acme", "globex"):
            run(self.app.tenancy.add_organisation(slug))
        self.projects = {
            slug: run(self.app.tenancy.add_project(slug, "project")) for slug in ("main", "acme")
        }
        admin = (self.settings.data / "admin.token").read_text().strip()
        kept = frozenset({READ}) if anonymous else frozenset()
        self.nobody = Token(None, "anonymous", "main", actions=kept)
        unknown = Token(admin[:-1] + "?", "user", "main", is_revoked=True)
        self.tokens = [Token(admin, "user", "main"), self.nobody, unknown]
        for slug in ("main", "acme", "globex"):
            self.make_token("org", slug)
        for slug, project in self.projects.items():
            self.make_token("project", slug, project)
            self.make_token("pull", slug, project)
        self.addresses = [
            *self.forms("main", "app", "app", "main/app"),
            *self.forms("main", "team/web", "team/web"),
            *self.forms("acme", "app", "acme/app"),
            *self.forms("acme", "blobs/uploads", "acme/blobs/uploads"),
            *self.forms("globex", "app", "globex/app"),
            *(
                Address(HOST, project, Place(slug, project, project))
                for slug, project in self.projects.items()
            ),
        ]

        for at in (0, 5):  # something to collide with
            self.push_image(at, 1, 3, [1, 2], "", "v1", "tag", 1, False)

    def forms(self, slug, path, *names):
        place = Place(slug, path)
        return [
            Address(f"{slug}.{HOST}", path, place),
            *(Address(HOST, name, place) for name in names),
        ]

    def open_app(self):
        self.app = Application(self.settings, self.clock)
        self.opened = contextlib.AsyncExitStack()
        self.runner.run(self.opened.enter_async_context(self.app.run()))
        transport = httpx.ASGITransport(app=self.app)
        self.http = httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}")

    def close_app(self):
        self.runner.run(self.http.aclose())
        self.runner.run(self.opened.aclose())

    def teardown(self):
        if hasattr(self, "app"):
            self.close_app()
        self.stack.close()

    # What a step needs.

    def make_token(self, kind, slug, project=None, *, actions=ALL, expires=False):
        life = TOKEN_LIFE if expires else PULL_LIFE if kind == "pull" else None
        expires_at = self.clock.time + life if life is not None else None
        request = TokenRequest(
            kind=Kind(kind),
            organisation=slug,
            project=project,
            actions=None if actions == ALL else actions,
            expires_in=TOKEN_LIFE if expires else None,
        )
        text = self.runner.run(self.app.tenancy.add_token(request))
        self.tokens.append(Token(text, kind, slug, project, actions, expires_at))

    def who(self, number, action, place):
        """Two times of three somebody who may, else anybody."""
        able = [
            token
            for token in self.tokens
            if token.is_alive(self.clock.time) and action in token.rights(place)
        ]
        return pick(self.tokens if number % 3 == 0 else able, number // 3)

    def refusals(self, token, action, place, *, bearer):
        """The statuses that say no; none when the answer must be another."""
        now = self.clock.time
        if not token.is_alive(now):
            if token.is_revoked or bearer or action in token.rights(place):
                return {401}
            return {401, 403, 404}
        if action in token.rights(place):
            return set()
        if token is self.nobody:
            return {401}
        return {404} if action == READ else {403}

    def ask(self, method, address, path, token, *, bearer, more=(), host=None, **request):
        headers = dict(request.pop("headers", {}))
        headers["host"] = host or address.host
        if token.text is not None:
            headers |= basic(token.text)
        if bearer:
            scopes = [f"repository:{name}:pull,push,delete" for name in (address.name, *more)]
            issued = self.send("GET", "/v2/token", headers=headers, params={"scope": scopes})
            if issued.status_code != 200:
                return issued
            headers["authorization"] = f"Bearer {issued.json()['token']}"
        return self.send(method, f"/v2/{address.name}/{path}", headers=headers, **request)

    def send(self, method, path, **request):
        answer = self.runner.run(self.http.request(method, path, **request))
        self.steps.append((method, path, answer.status_code))
        assert answer.status_code < 500, (method, path, answer.text)
        return answer

    def somewhere(self, number):
        """Two times of three an address where something is, else any."""
        full = [
            address
            for address in self.addresses
            if self.is_known(address.place) and self.at(address.place).manifests
        ]
        return pick(full if full and number % 3 else self.addresses, number // 3)

    def at(self, place):
        return self.holdings[place.organisation, place.path]

    def is_known(self, place):
        return (place.organisation, place.path) in self.holdings

    def check(self, answer, *expected):
        assert answer.status_code in expected, (answer.text, expected, self.steps[-3:])

    def remember(self, answer, address, token):
        self.at(address.place)
        location = answer.headers["location"]
        assert location.startswith(f"/v2/{address.name}/blobs/uploads/")
        upload = location.rpartition("/")[2]
        expires_at = self.clock.time + SESSION_LIFE
        self.sessions.append((address, Session(upload, address.place, token, expires_at)))

    # Uploads.

    @rule(at=PICK, who=PICK, bearer=BEARER)
    def begin_upload(self, at, who, bearer):
        address = pick(self.addresses, at)
        token = self.who(who, WRITE, address.place)

        answer = self.ask("POST", address, "blobs/uploads/", token, bearer=bearer)

        refused = self.refusals(token, WRITE, address.place, bearer=bearer)
        self.check(answer, *(refused or {202}))
        if not refused:
            self.remember(answer, address, token)

    @rule(at=PICK, who=PICK, blob=BLOB, right=st.integers(0, 3), bearer=BEARER)
    def push_blob_at_once(self, at, who, blob, right, bearer):
        address, content = pick(self.addresses, at), BLOBS[blob]
        token = self.who(who, WRITE, address.place)
        digest = digest_of(content) if right else ABSENT

        answer = self.ask(
            "POST",
            address,
            "blobs/uploads/",
            token,
            bearer=bearer,
            params={"digest": digest},
            content=content,
        )

        if refused := self.refusals(token, WRITE, address.place, bearer=bearer):
            self.check(answer, *refused)
            return
        held = self.at(address.place)
        if right:
            self.check(answer, 201)
            held.blobs.add(digest)
        elif content:
            self.check(answer, 400)
        else:  # zero bytes that are not the empty blob only begin an upload
            self.check(answer, 202)
            self.remember(answer, address, token)

    def usable(self):
        """Sessions that still take bytes."""
        return [
            (address, session)
            for address, session in self.sessions
            if session.digest is None and self.clock.time < session.expires_at
        ]

    def upload(self, number, who):
        """A session, and who comes for it: two times of three the one that opened it."""
        usable = self.usable()
        address, session = pick(usable if usable and number % 4 else self.sessions, number // 4)
        token = session.token if who % 3 else pick(self.tokens, who // 3)
        where = pick(self.addresses, who // 3) if who == 3 else address
        return where, session, token

    def upload_refusals(self, address, session, token, action, *, bearer):
        refused = self.refusals(token, action, address.place, bearer=bearer)
        if refused:
            return refused
        is_its = session.token is token and session.place == address.place
        is_alive = self.clock.time < session.expires_at
        return set() if is_its and is_alive else {404}

    @precondition(lambda self: self.sessions)
    @rule(
        number=PICK,
        who=PICK,
        blob=BLOB,
        cut=st.integers(0, 60),
        offset=st.sampled_from([None, None, 0, 0, 1, -1]),
        bearer=BEARER,
    )
    def send_chunk(self, number, who, blob, cut, offset, bearer):
        address, session, token = self.upload(number, who)
        left = BLOBS[blob][len(session.data) :] if BLOBS[blob].startswith(session.data) else b"x"
        piece = left[: cut or None]
        start = len(session.data) + (offset or 0)
        headers = {}
        if offset is not None and piece and start >= 0:
            headers["content-range"] = f"{start}-{start + len(piece) - 1}"

        answer = self.ask(
            "PATCH",
            address,
            f"blobs/uploads/{session.location}",
            token,
            bearer=bearer,
            headers=headers,
            content=piece,
        )

        if refused := self.upload_refusals(address, session, token, WRITE, bearer=bearer):
            self.check(answer, *refused)
        elif session.digest is not None:
            self.check(answer, 404, 416)
        elif headers and start != len(session.data):
            self.check(answer, 416)
            assert answer.headers["range"] == f"0-{max(0, len(session.data) - 1)}"
        else:
            self.check(answer, 202)
            session.data += piece
            if piece:
                session.expires_at = self.clock.time + SESSION_LIFE
            assert answer.headers["range"] == f"0-{max(0, len(session.data) - 1)}"

    @precondition(lambda self: self.sessions)
    @rule(number=PICK, who=PICK, blob=BLOB, right=st.integers(0, 3), bearer=BEARER)
    def finish_upload(self, number, who, blob, right, bearer):
        address, session, token = self.upload(number, who)
        content = BLOBS[blob]
        last = content[len(session.data) :] if content.startswith(session.data) else b""
        digest = digest_of(session.data + last) if right else ABSENT

        answer = self.ask(
            "PUT",
            address,
            f"blobs/uploads/{session.location}",
            token,
            bearer=bearer,
            params={"digest": digest},
            content=last,
        )

        if refused := self.upload_refusals(address, session, token, WRITE, bearer=bearer):
            self.check(answer, *refused)
        elif session.digest is not None:
            is_there = digest == session.digest and digest in self.at(session.place).blobs
            self.check(answer, 201 if is_there else 404)
        elif right:
            self.check(answer, 201)
            self.at(session.place).blobs.add(digest)
            session.digest = digest
            session.expires_at = self.clock.time + COMMITTED_LIFE
        else:
            self.check(answer, 400)
            session.data += last
            if last:
                session.expires_at = self.clock.time + SESSION_LIFE

    @precondition(lambda self: self.sessions)
    @rule(number=PICK, who=PICK, bearer=BEARER)
    def ask_how_far_an_upload_is(self, number, who, bearer):
        address, session, token = self.upload(number, who)

        answer = self.ask("GET", address, f"blobs/uploads/{session.location}", token, bearer=bearer)

        refused = self.upload_refusals(address, session, token, READ, bearer=bearer)
        self.check(answer, *(refused or {204}))
        if not refused and session.digest is None:
            assert answer.headers["range"] == f"0-{max(0, len(session.data) - 1)}"

    @precondition(lambda self: self.sessions)
    @rule(number=PICK, who=PICK, bearer=BEARER)
    def cancel_upload(self, number, who, bearer):
        address, session, token = self.upload(number, who)

        answer = self.ask(
            "DELETE", address, f"blobs/uploads/{session.location}", token, bearer=bearer
        )

        if refused := self.upload_refusals(address, session, token, WRITE, bearer=bearer):
            self.check(answer, *refused)
        elif session.digest is not None:
            self.check(answer, 404)
        else:
            self.check(answer, 204)
            session.expires_at = 0

    @rule(at=PICK, who=PICK, blob=st.integers(2, 4), cut=st.integers(1, 60), end=st.integers(0, 3))
    def push_blob_in_chunks(self, at, who, blob, cut, end):
        """What clients do; here and there with another's step in between."""
        before = len(self.sessions)
        self.begin_upload(at, who, False)
        if len(self.sessions) == before:
            return
        number = (len(self.usable()) - 1) * 4 + 1  # the one just opened
        for offset in (0, None, 1, 0):
            self.send_chunk(number, 1, blob, cut, offset, False)
        if end == 0:
            self.cancel_upload(number, 1, False)
        elif end == 1:
            self.restart()
        self.finish_upload(number, 1, blob, end, False)

    @rule(at=PICK, source=PICK, who=PICK, blob=BLOB, named=st.booleans(), bearer=BEARER)
    def mount(self, at, source, who, blob, named, bearer):
        address = pick(self.addresses, at)
        token = self.who(who, WRITE, address.place)
        digest = digest_of(BLOBS[blob])
        origin = pick([known for known in self.addresses if known.host == address.host], source)
        params = {"mount": digest} | ({"from": origin.name} if named else {})

        answer = self.ask(
            "POST",
            address,
            "blobs/uploads/",
            token,
            bearer=bearer,
            more=[origin.name] if named else [],
            params=params,
        )

        if refused := self.refusals(token, WRITE, address.place, bearer=bearer):
            self.check(answer, *refused)
            return
        if named:
            holders = [origin.place]
        elif bearer:  # it covers this name alone
            holders = [address.place]
        else:
            holders = [
                known.place
                for known in self.addresses
                if known.place.organisation == address.place.organisation
            ]
        is_here = any(
            self.is_known(place) and READ in token.rights(place) and digest in self.at(place).blobs
            for place in holders
        )
        self.check(answer, 201 if is_here else 202)
        if is_here:
            self.at(address.place).blobs.add(digest)
        else:
            self.remember(answer, address, token)

    # Manifests and tags.

    @rule(
        at=PICK,
        who=PICK,
        config=BLOB,
        layers=SOME_BLOBS,
        subject=st.sampled_from(["", "", "absent", "pushed"]),
        tag=st.sampled_from(TAGS),
        by=st.sampled_from(["tag", "tag", "digest", "both", "wrong"]),
        complete=st.integers(0, 3),
        bearer=BEARER,
    )
    def push_image(self, at, who, config, layers, subject, tag, by, complete, bearer):
        address = pick(self.addresses, at)
        named = {"": None, "absent": ABSENT, "pushed": pick(self.pushed or [ABSENT], config)}
        manifest = image(config, layers, named[subject])
        token = self.who(who, WRITE, address.place)
        if complete and not self.refusals(token, WRITE, address.place, bearer=False):
            for blob in (config, *layers):
                self.push_blob_at_once(at, self.tokens.index(token) * 3, blob, 1, False)
        self.push(address, token, manifest, tag, by, bearer=bearer)

    @rule(
        at=PICK,
        who=PICK,
        children=st.lists(PICK, max_size=2),
        note=st.integers(0, 1),
        tag=st.sampled_from(TAGS),
        by=st.sampled_from(["tag", "digest", "both"]),
        bearer=BEARER,
    )
    def push_index(self, at, who, children, note, tag, by, bearer):
        address = self.somewhere(at)
        here = list(self.at(address.place).manifests) if self.is_known(address.place) else []
        some = here or self.pushed or [ABSENT]
        manifest = index(sorted({pick(some, child) for child in children}), note)
        token = self.who(who, WRITE, address.place)
        self.push(address, token, manifest, tag, by, bearer=bearer)

    def push(self, address, token, manifest: Manifest, tag, by, *, bearer):
        reference = {"tag": tag, "wrong": ABSENT}.get(by, manifest.digest)

        answer = self.ask(
            "PUT",
            address,
            f"manifests/{reference}",
            token,
            bearer=bearer,
            params={"tag": tag} if by == "both" else {},
            headers={"content-type": manifest.media_type},
            content=manifest.body,
        )

        if refused := self.refusals(token, WRITE, address.place, bearer=bearer):
            self.check(answer, *refused)
            return
        held = self.at(address.place) if self.is_known(address.place) else Holdings()
        if by == "wrong" or held.lacks(manifest) or self.depth(held, manifest) > 4:
            self.check(answer, 400)
        else:
            self.check(answer, 201)
            assert answer.headers["docker-content-digest"] == manifest.digest
            assert answer.headers.get("oci-subject") == manifest.subject
            self.at(address.place).put(manifest, [tag] if by in {"tag", "both"} else [])
            self.pushed.append(manifest.digest)

    def depth(self, held, manifest):
        return max(
            (self.depth(held, held.manifests[child]) + 1 for child in manifest.children), default=0
        )

    @rule(at=PICK, who=PICK, tag=st.sampled_from(TAGS), bearer=BEARER)
    def delete_tag(self, at, who, tag, bearer):
        address = self.somewhere(at)
        token = self.who(who, UNTAG, address.place)

        answer = self.ask("DELETE", address, f"manifests/{tag}", token, bearer=bearer)

        if refused := self.refusals(token, UNTAG, address.place, bearer=bearer):
            self.check(answer, *refused)
        elif self.is_known(address.place) and tag in self.at(address.place).tags:
            self.check(answer, 202)
            del self.at(address.place).tags[tag]
        else:
            self.check(answer, 404)

    @rule(at=PICK, who=PICK, number=PICK, bearer=BEARER)
    def delete_manifest(self, at, who, number, bearer):
        address = self.somewhere(at)
        token = self.who(who, DELETE, address.place)
        held = self.at(address.place) if self.is_known(address.place) else Holdings()
        digest = pick([*held.manifests] * 2 + [*self.pushed[-1:], ABSENT], number)

        answer = self.ask("DELETE", address, f"manifests/{digest}", token, bearer=bearer)

        if refused := self.refusals(token, DELETE, address.place, bearer=bearer):
            self.check(answer, *refused)
        elif digest not in held.manifests:
            self.check(answer, 404)
        elif held.is_listed(digest):
            self.check(answer, 405)
        else:
            self.check(answer, 202)
            held.remove(digest)

    @rule(at=PICK, who=PICK, number=PICK, bearer=BEARER)
    def delete_blob(self, at, who, number, bearer):
        address = self.somewhere(at)
        token = self.who(who, DELETE, address.place)
        held = self.at(address.place) if self.is_known(address.place) else Holdings()
        unused = [digest for digest in sorted(held.blobs) if not held.is_needed(digest)]
        digest = pick([*unused, *sorted(held.blobs)] or [ABSENT], number)

        answer = self.ask("DELETE", address, f"blobs/{digest}", token, bearer=bearer)

        if refused := self.refusals(token, DELETE, address.place, bearer=bearer):
            self.check(answer, *refused)
        elif digest not in held.blobs:
            self.check(answer, 404)
        elif held.is_needed(digest):
            self.check(answer, 405)
        else:
            self.check(answer, 202)
            held.blobs.remove(digest)

    # Reading.

    @rule(at=PICK, who=PICK, number=PICK, method=st.sampled_from(["GET", "HEAD"]), bearer=BEARER)
    def pull_manifest(self, at, who, number, method, bearer):
        address = self.somewhere(at)
        token = self.who(who, READ, address.place)
        held = self.at(address.place) if self.is_known(address.place) else Holdings()
        others = [*TAGS, *self.pushed[-2:], ABSENT]
        reference = pick([*held.tags, *held.manifests] * 2 + others, number)

        answer = self.ask(method, address, f"manifests/{reference}", token, bearer=bearer)

        manifest = held.manifests.get(held.tags.get(reference, reference))
        if refused := self.refusals(token, READ, address.place, bearer=bearer):
            self.check(answer, *refused)
        elif manifest is None:
            self.check(answer, 404)
        else:
            self.check(answer, 200)
            assert answer.content == (manifest.body if method == "GET" else b"")
            assert answer.headers["docker-content-digest"] == manifest.digest
            assert answer.headers["content-type"] == manifest.media_type

    @rule(at=PICK, who=PICK, blob=BLOB, method=st.sampled_from(["GET", "HEAD"]), bearer=BEARER)
    def pull_blob(self, at, who, blob, method, bearer):
        address, content = self.somewhere(at), BLOBS[blob]
        token = self.who(who, READ, address.place)
        digest = digest_of(content)

        answer = self.ask(method, address, f"blobs/{digest}", token, bearer=bearer)

        if refused := self.refusals(token, READ, address.place, bearer=bearer):
            self.check(answer, *refused)
        elif self.is_known(address.place) and digest in self.at(address.place).blobs:
            self.check(answer, 200)
            assert answer.content == (content if method == "GET" else b"")
            assert answer.headers["content-length"] == str(len(content))
        else:
            self.check(answer, 404)

    @rule(at=PICK, who=PICK, bearer=BEARER)
    def list_tags(self, at, who, bearer):
        address = self.somewhere(at)
        token = self.who(who, READ, address.place)

        answer = self.ask("GET", address, "tags/list", token, bearer=bearer)

        if refused := self.refusals(token, READ, address.place, bearer=bearer):
            self.check(answer, *refused)
        elif not self.is_known(address.place):
            self.check(answer, 404)
        else:
            tags = sorted(self.at(address.place).tags)
            assert answer.json() == {"name": address.name, "tags": tags}

    @rule(at=PICK, who=PICK, number=PICK, bearer=BEARER)
    def list_referrers(self, at, who, number, bearer):
        address = self.somewhere(at)
        token = self.who(who, READ, address.place)
        held = self.at(address.place) if self.is_known(address.place) else Holdings()
        subjects = [named.subject for named in held.manifests.values() if named.subject]
        subject = pick([*subjects, ABSENT, *self.pushed[-3:]], number)

        answer = self.ask("GET", address, f"referrers/{subject}", token, bearer=bearer)

        if refused := self.refusals(token, READ, address.place, bearer=bearer):
            self.check(answer, *refused)
            return
        self.check(answer, 200)
        assert answer.headers["content-type"] == OCI_INDEX
        assert [entry["digest"] for entry in answer.json()["manifests"]] == sorted(
            manifest.digest for manifest in held.manifests.values() if manifest.subject == subject
        )

    @rule(who=PICK, slug=st.sampled_from(["", "main.", "acme.", "globex."]))
    def list_repositories(self, who, slug):
        token = pick(self.tokens, who)
        headers = basic(token.text) if token.text is not None else {}

        answer = self.send("GET", "/v2/_catalog", headers=headers | {"host": slug + HOST})

        if token is self.nobody or not token.is_alive(self.clock.time):
            self.check(answer, 401)
            return
        here = {
            address.place
            for address in self.addresses
            if address.place.organisation == (slug[:-1] or "main")
            and self.is_known(address.place)
            and self.at(address.place).manifests
            and READ in token.rights(address.place)
        }
        assert answer.json() == {"repositories": sorted(place.path for place in here)}

    # The world around.

    @precondition(lambda self: len(self.tokens) < 16)
    @rule(
        kind=st.sampled_from(["user", "org", "project", "pull"]),
        slug=st.sampled_from(["main", "acme", "globex"]),
        actions=st.sampled_from([ALL, frozenset({READ}), frozenset({READ, WRITE})]),
        expires=st.booleans(),
    )
    def create_token(self, kind, slug, actions, expires):
        slug = "main" if kind == "user" or (kind == "project" and slug == "globex") else slug
        project = self.projects[slug] if kind == "project" else None
        self.make_token(kind, slug, project, actions=actions, expires=expires)

    @precondition(lambda self: len(self.tokens) > 10)
    @rule(number=PICK)
    def revoke_token(self, number):
        token = pick(self.tokens[10:], number)  # the first ones keep the rest interesting

        was_good = self.runner.run(self.app.tenancy.revoke_token(token.text))

        assert was_good != token.is_revoked
        token.is_revoked = True
        self.clock.advance(6 * SECOND)  # what a read may still remember

    @rule(time=st.sampled_from([5 * HOUR, 5 * HOUR, 26 * HOUR, 8 * DAY]))
    def let_time_pass(self, time):
        self.clock.advance(time)
        self.runner.run(self.app.uploads.sweep())
        self.runner.run(self.app.uploads.sweep_strays())

    @rule()
    def restart(self):
        self.close_app()
        self.open_app()

    # What must hold after each step.

    @invariant()
    def the_database_holds_what_the_model_does(self):
        if not hasattr(self, "addresses"):
            return
        found = self.runner.run(self.read_everything())
        expected = {
            "blobs": {
                (*key, digest) for key, held in self.holdings.items() for digest in held.blobs
            },
            "manifests": {
                (*key, digest) for key, held in self.holdings.items() for digest in held.manifests
            },
            "tags": {
                (*key, tag, digest)
                for key, held in self.holdings.items()
                for tag, digest in held.tags.items()
            },
            "history": {
                (*key, tag, version, digest)
                for key, held in self.holdings.items()
                for tag, digests in held.history.items()
                for version, digest in enumerate(digests, start=1)
            },
        }
        assert found == expected

    @invariant()
    def all_invariants_hold(self):
        if hasattr(self, "addresses"):
            check_invariants(
                self.settings.database.url, self.settings.data, now=self.clock.time / SECOND
            )

    async def read_everything(self):
        where = "JOIN repositories AS r ON r.id = x.repository_id JOIN organisations AS o ON o.id = r.organisation_id"
        live = "WHERE x.deleted_at IS NULL"
        questions = {
            "blobs": f"SELECT o.slug, r.path, x.digest FROM blob_links AS x {where} {live}",
            "manifests": f"SELECT o.slug, r.path, x.digest FROM manifests AS x {where} {live}",
            "tags": f"SELECT o.slug, r.path, x.name, x.digest FROM tags AS x {where}",
            "history": f"SELECT o.slug, r.path, x.name, x.version, x.digest FROM tag_history AS x {where}",
        }
        async with self.app.database.read() as tx:
            return {name: set(await tx.fetch_all(sql)) for name, sql in questions.items()}


@pytest.mark.timeout(900)  # making a failing example small takes up to five minutes
def test_the_registry_does_what_the_model_says(new_registry, effort, monkeypatch):
    # Time passes in steps of days here: nothing goes but by a step.
    monkeypatch.setattr(Application, "_jobs", lambda _: [])

    class Machine(RegistryMachine):
        pass

    Machine.new_registry = staticmethod(new_registry)
    is_long = effort == "long"

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=500 if is_long else 12, stateful_step_count=100 if is_long else 50
        ),
    )
