"""A rotation of the secret key: killed anywhere, and under a server that goes on."""

import asyncio
import os
import secrets
import subprocess
import time
from contextlib import asynccontextmanager

import httpx
import jwt
import pytest

from entrepot.app import prepare
from entrepot.config import load
from entrepot.db.connect import connect
from entrepot.db.sealed import IDEMPOTENCY_KEYS
from entrepot.identity.bearer import BearerClaims, BearerKey
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.identity.seal import Seal, key_id_of
from entrepot.model.clock import SECOND, SystemClock
from tests.support.server import ENTREPOT, Client, basic, running_server
from tests.support.strace import require_tracing
from tests.support.told_command import run_command

pytestmark = pytest.mark.slow  # servers that are killed and started again

_ROWS = 450  # three batches
_POINTS = 5  # of each database
_DECISIVE = ("rename", "fsync", "fdatasync", "openat")
_SECONDS = 60.0


class Rotations:
    """An installation with sealed rows, whose key is rotated again and again."""

    def __init__(self, data, database_url):
        self.path = data / "secret.key"
        self.url = database_url
        self.environment = {"ENTREPOT_DATA": str(data), "ENTREPOT_DATABASE__URL": database_url}
        self.secret = {(1, f"key-{n}"): secrets.token_bytes(20) for n in range(_ROWS)}
        asyncio.run(self.prepare())
        asyncio.run(self._fill())

    @property
    def ring(self):
        return KeyRing.at(self.path, SystemClock())

    async def prepare(self):
        """A start: refused without the key that the database names."""
        await prepare(load(None, self.environment))

    @asynccontextmanager
    async def database(self):
        database = connect(self.url, pool_size=1)
        await database.open()
        yield database
        await database.close()

    async def _fill(self):
        seal = Seal(self.ring)

        async def work(tx):
            for key, value in self.secret.items():
                await tx.execute(
                    """
                    INSERT INTO idempotency_keys
                           (token_id, key, status, sealed, created_at)
                    VALUES (:token_id, :key, 201, :text, 0)
                    """,
                    token_id=key[0],
                    key=key[1],
                    text=seal.seal(value, IDEMPOTENCY_KEYS.bound_to(*key)),
                )

        async with self.database() as database:
            await database.write(work)

    async def look(self):
        """Every secret is there and opens; the ids of the keys that they are sealed with."""
        async with self.database() as database, database.read(scan=True) as tx:
            rows = await tx.fetch_all("SELECT token_id, key, sealed FROM idempotency_keys")
        seal = Seal(self.ring)
        texts = {(token_id, key): str(text) for token_id, key, text in rows}
        opened = {
            key: seal.open(text, IDEMPOTENCY_KEYS.bound_to(*key)) for key, text in texts.items()
        }
        assert opened == self.secret
        return {key_id_of(text) for text in texts.values()}

    def run(self, nth=None, only=""):
        """Rotate, killed at the Nth call that counts; what it was killed at, or with 0 all calls."""
        return run_command("admin", "rotate-key", environment=self.environment, nth=nth, only=only)

    def kill_and_finish(self, nth, only=""):
        before = self.ring.keys
        ended = self.run(nth, only)

        asyncio.run(self.prepare())
        asyncio.run(self.look())
        self.run()

        after = self.ring.keys
        assert after[-len(before) :] == before
        assert len(after) - len(before) <= 2
        assert asyncio.run(self.look()) == {after[0].id}
        assert not list(self.path.parent.glob(".secret.key.*"))
        return ended


def test_a_rotation_that_was_killed_anywhere_loses_nothing_and_is_finished(
    data, database_url, database_kind, capsys
):
    require_tracing()
    rotations = Rotations(data, database_url)
    total = len(rotations.run(0).split())
    step = total // _POINTS
    first = secrets.randbelow(step) + 1  # other points in other runs

    killed = [rotations.kill_and_finish(first + number * step) for number in range(_POINTS)]
    killed += [rotations.kill_and_finish(1, only) for only in _DECISIVE]

    assert "killed rename" in killed
    with capsys.disabled():
        print(f"\n{database_kind}: of {total} calls: {killed}")


def new_bearer(server, name):
    answer = httpx.get(
        f"{server.url}/v2/token",
        params={"service": f"127.0.0.1:{server.port}", "scope": f"repository:{name}:pull"},
        headers=basic(server.token),
    )
    return answer.json()["token"]


def pull(server, name, bearer):
    return httpx.get(
        f"{server.url}/v2/{name}/manifests/v1", headers={"authorization": f"Bearer {bearer}"}
    ).status_code


def rotate(server, *options):
    subprocess.run(
        [ENTREPOT, "admin", "rotate-key", *options],
        env={**os.environ, **server.environment},
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )


def test_a_running_server_takes_the_new_key_and_honours_the_old_until_it_is_forgotten(
    data, database_url, name
):
    with running_server(data, database_url=database_url) as server:
        client = Client(server, token=server.token)
        client.push_image(name, "v1")
        client.close()
        old, unused = new_bearer(server, name), new_bearer(server, name)
        path = data / "secret.key"
        now = SystemClock().now()
        nobody = BearerClaims(1, f"127.0.0.1:{server.port}", {}, now, now + 60 * SECOND)

        rotate(server)
        ring = KeyRing.at(path, SystemClock())
        # The first token that names a key makes the server look for it at once.
        unknown = pull(server, name, BearerKey(ring).sign(nobody))
        after = {
            "old": pull(server, name, old),
            "new": pull(server, name, new_bearer(server, name)),
        }
        signed_with = jwt.get_unverified_header(new_bearer(server, name))["kid"]

        then = time.time() - 180  # as if it was three minutes ago
        os.utime(path, (then, then))
        rotate(server, "--forget-old")
        pull(server, name, BearerKey(KeyRing(SecretKey.new())).sign(nobody))
        forgotten = pull(server, name, unused)  # the other one is remembered for five seconds
        kept = pull(server, name, new_bearer(server, name))

    assert unknown == 401
    assert after == {"old": 200, "new": 200}
    assert jwt.get_unverified_header(old)["kid"] != signed_with == ring.keys[0].id
    assert (forgotten, kept) == (401, 200)
