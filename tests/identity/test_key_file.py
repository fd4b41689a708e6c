"""Writing the file of secret keys."""

import os

import pytest

from entrepot.identity.key_file import (
    add_key,
    alone_with,
    make_key_file,
    refuse_if_open,
    write_keys,
)
from entrepot.identity.keys import MOST_KEYS, KeyRing, SecretKey, read_keys
from entrepot.model.errors import StartRefused, StorageFailed
from tests.support.clock import FakeClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secret.key"


def test_a_key_is_made_once_and_for_its_owner_alone(path):
    make_key_file(path)
    made = path.read_text()
    make_key_file(path)

    assert path.read_text() == made
    assert len(read_keys(made)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    refuse_if_open(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(path, mode):
    make_key_file(path)
    path.chmod(mode)

    with pytest.raises(StartRefused, match="chmod 600"):
        refuse_if_open(path)


def test_a_new_key_comes_before_the_old_ones_and_the_ring_has_it_at_once(path):
    make_key_file(path)
    ring = KeyRing.at(path, FakeClock())
    (old,) = ring.keys

    add_key(path, ring)

    new = ring.current
    assert new != old
    assert read_keys(path.read_text()) == ring.keys == (new, old)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_ring_takes_no_key(path):
    keys = [SecretKey.new() for _ in range(MOST_KEYS)]
    write_keys(path, keys)

    with pytest.raises(StartRefused, match="--forget-old"):
        add_key(path, KeyRing.at(path, FakeClock()))

    assert list(read_keys(path.read_text())) == keys


def test_the_file_stays_with_its_owner_and_drafts_of_killed_runs_go(path):
    make_key_file(path)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    owner = path.stat().st_uid, path.stat().st_gid
    path.with_name(".secret.key.0badcafe").write_text("half a k")

    write_keys(path, [SecretKey.new()])

    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert [file.name for file in path.parent.iterdir()] == ["secret.key"]


def test_a_link_to_the_file_stays_a_link(path, tmp_path):
    real = tmp_path / "elsewhere" / "key"
    real.parent.mkdir()
    path.symlink_to(real)

    make_key_file(path)
    add_key(path, KeyRing.at(path, FakeClock()))

    assert path.is_symlink()
    assert len(read_keys(real.read_text())) == 2


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(StorageFailed, match="No such file"):
        write_keys(tmp_path / "missing" / "secret.key", [SecretKey.new()])
    with pytest.raises(StartRefused, match="No such file"), alone_with(tmp_path / "a" / "b"):
        pass


def test_one_changes_the_file_at_a_time(path):
    with alone_with(path), pytest.raises(StartRefused, match="another"), alone_with(path):
        pass

    with alone_with(path):
        pass
