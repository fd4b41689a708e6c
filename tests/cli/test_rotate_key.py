"""`entrepot admin rotate-key`, and starts with the wrong key."""

import asyncio
import os
import time

import pytest
from click.testing import CliRunner

from entrepot.app import Application, prepare
from entrepot.cli.main import main
from entrepot.config import load
from entrepot.db.connect import connect
from entrepot.db.sealed import IDEMPOTENCY_KEYS
from entrepot.identity.keys import KeyRing, SecretKey, read_keys
from entrepot.identity.seal import Seal
from entrepot.model.clock import SystemClock
from entrepot.model.errors import StartRefused
from entrepot.services.rotation import recorded_key

ROW = (1, "key")


class Installation:
    """A data folder after its first start."""

    def __init__(self, data):
        self.data = data
        self.key_file = data / "secret.key"
        self.environment = {"ENTREPOT_DATA": str(data)}

    def prepare(self):
        return asyncio.run(prepare(load(None, self.environment)))

    def rotate(self, *options, **environment):
        ours = {**dict.fromkeys(os.environ), **self.environment, **environment}
        return CliRunner().invoke(main, ["admin", "rotate-key", *options], env=ours)

    @property
    def keys(self):
        return read_keys(self.key_file.read_text())

    def ask(self, use):
        async def run():
            database = connect(f"sqlite://{self.data / 'entrepot.db'}")
            await database.open()
            try:
                return await use(database)
            finally:
                await database.close()

        return asyncio.run(run())

    @property
    def recorded(self):
        return self.ask(recorded_key)

    def seal(self, *keys):
        """Store a secret that is sealed with the first of these keys."""
        text = Seal(KeyRing(*keys)).seal(b"secret", IDEMPOTENCY_KEYS.bound_to(*ROW))
        self.ask(
            lambda database: database.write(
                lambda tx: tx.execute(
                    """
                    INSERT INTO idempotency_keys
                           (token_id, key, status, sealed, created_at)
                    VALUES (1, 'key', 201, :text, 0)
                    ON CONFLICT (token_id, key) DO UPDATE SET sealed = excluded.sealed
                    """,
                    text=text,
                )
            )
        )

    def open(self, *keys):
        async def use(database):
            async with database.read() as tx:
                return await tx.fetch_one("SELECT sealed FROM idempotency_keys")

        return Seal(KeyRing(*keys)).open(self.ask(use)[0], IDEMPOTENCY_KEYS.bound_to(*ROW))

    def age(self):
        """As if the last rotation was three minutes ago."""
        then = time.time() - 180
        os.utime(self.key_file, (then, then))


@pytest.fixture
def installation(tmp_path):
    installation = Installation(tmp_path / "data")
    installation.prepare()
    return installation


def test_a_rotation_puts_a_new_key_first_and_moves_what_is_sealed(installation):
    (old,) = installation.keys
    installation.seal(old)

    done = installation.rotate()

    assert done.exit_code == 0, done.output
    new, kept = installation.keys
    assert kept == old
    assert installation.recorded == new.id
    assert installation.open(new) == b"secret"
    assert f"the secret key is {new.id}; sealed anew: 1" in done.stderr
    assert "--forget-old" in done.stderr
    assert "back up" in done.stderr
    installation.prepare()


def test_old_keys_are_forgotten_when_nothing_needs_them(installation):
    installation.rotate()
    new, old = installation.keys

    early = installation.rotate("--forget-old")
    installation.age()
    installation.seal(old)
    in_use = installation.rotate("--forget-old")
    installation.rotate()
    installation.age()
    done = installation.rotate("--forget-old")

    assert early.exit_code == 1
    assert "two minutes" in early.stderr
    assert in_use.exit_code == 1
    assert f"1 with {old.id}" in in_use.stderr
    assert done.exit_code == 0, done.output
    assert installation.keys == (new,)
    assert installation.open(new) == b"secret"
    assert installation.rotate("--forget-old").exit_code == 1
    installation.prepare()


def test_a_key_that_the_database_still_names_is_not_forgotten(installation):
    (old,) = installation.keys
    new = SecretKey.new()
    installation.key_file.write_text(f"{new.text}\n{old.text}\n")
    installation.age()

    refused = installation.rotate("--forget-old")

    assert refused.exit_code == 1
    assert "run `entrepot admin rotate-key` first" in refused.stderr
    assert installation.keys == (new, old)


def test_a_rotation_that_stopped_behind_its_new_key_is_finished_without_another(installation):
    (old,) = installation.keys
    installation.seal(old)
    new = SecretKey.new()
    installation.key_file.write_text(f"{new.text}\n{old.text}\n")

    done = installation.rotate()

    assert done.exit_code == 0, done.output
    assert installation.keys == (new, old)
    assert installation.recorded == new.id
    assert installation.open(new) == b"secret"


def test_a_key_from_the_environment_is_shown_and_moved_to_once_it_is_there(tmp_path):
    old = SecretKey.new()
    installation = Installation(tmp_path / "data")
    installation.environment["ENTREPOT_SECRET_KEY"] = old.text
    installation.prepare()
    installation.seal(old)

    shown = installation.rotate()
    (new,) = read_keys(shown.stdout)
    moved = installation.rotate(ENTREPOT_SECRET_KEY=f"{new.text},{old.text}")
    forgotten = installation.rotate("--forget-old", ENTREPOT_SECRET_KEY=f"{new.text} {old.text}")

    assert new != old
    assert "put it before the old one" in shown.stderr
    assert not installation.key_file.exists()
    assert moved.exit_code == 0, moved.output
    assert moved.stdout == ""
    assert installation.open(new) == b"secret"
    assert f"nothing needs {old.id}" in forgotten.stderr
    with pytest.raises(StartRefused):
        installation.prepare()
    installation.environment["ENTREPOT_SECRET_KEY"] = new.text
    installation.prepare()


def test_the_same_with_a_file_of_the_operators(tmp_path):
    old = SecretKey.new()
    file = tmp_path / "keys"
    file.write_text(old.text)
    installation = Installation(tmp_path / "data")
    installation.environment["ENTREPOT_SECRET_KEY_FILE"] = str(file)
    installation.prepare()

    (new,) = read_keys(installation.rotate().stdout)
    assert file.read_text() == old.text
    file.write_text(f"{new.text}\n{old.text}\n")
    moved = installation.rotate()

    assert moved.exit_code == 0, moved.output
    assert installation.recorded == new.id


def test_a_start_without_the_key_is_refused_and_makes_none(installation):
    installation.key_file.rename(installation.data / "kept")

    with pytest.raises(StartRefused, match="put it back from the backup"):
        installation.prepare()

    assert not installation.key_file.exists()
    (installation.data / "kept").rename(installation.key_file)
    installation.prepare()


def test_a_start_with_another_key_is_refused_and_says_what_to_do(installation):
    installation.key_file.write_text(SecretKey.new().text)

    with pytest.raises(StartRefused, match="not the secret key of this registry"):
        installation.prepare()


def test_a_worker_with_another_key_does_not_start(installation):
    installation.key_file.write_text(SecretKey.new().text)
    app = Application(load(None, installation.environment), SystemClock())
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"type": "lifespan"}, receive, send))

    app.store.close()
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "not the secret key of this registry" in sent[0]["message"]


def test_an_installation_from_before_the_check_takes_the_key_that_it_has(installation):
    (key,) = installation.keys
    installation.ask(
        lambda database: database.write(
            lambda tx: tx.execute("DELETE FROM installation WHERE name = 'secret_key'")
        )
    )

    installation.prepare()

    assert installation.recorded == key.id


def test_a_lost_key_is_given_up_when_told(installation):
    (lost,) = installation.keys
    installation.seal(lost)
    installation.key_file.unlink()
    assert installation.rotate().exit_code == 1

    done = installation.rotate("--lost")

    assert done.exit_code == 0, done.output
    (new,) = installation.keys
    assert new != lost
    assert "1 stored secrets cannot be opened" in done.stderr
    assert "idempotency_keys (1, 'key')" in done.stderr
    installation.prepare()


def test_where_there_is_no_registry_nothing_is_made(tmp_path):
    refused = Installation(tmp_path / "data").rotate()

    assert refused.exit_code == 1
    assert "there is no registry" in refused.stderr
    assert not (tmp_path / "data").exists()
