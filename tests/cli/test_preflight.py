import contextlib
from pathlib import Path

import pytest

from entrepot.cli import preflight
from entrepot.config import load
from entrepot.model.errors import SettingsInvalid, StartRefused

MOUNTS = """\
/dev/vda / ext4 rw 0 0
nas:/x /srv nfs4 rw 0 0
/dev/vdb /srv/local\\040disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x.db", "ext4"),
        ("/srv/entrepot/x.db", "nfs4"),
        ("/srv/local disk/x.db", "xfs"),
        ("/srvx/y.db", "ext4"),
    ],
)
def test_the_nearest_mount_above_a_path_is_its_file_system(tmp_path, path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)

    assert preflight.file_system(Path(path), mounts) == kind


def test_sqlite_on_a_network_file_system_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "file_system", lambda _: "nfs4")

    with pytest.raises(SettingsInvalid, match="is on nfs4"):
        preflight.refuse_unsafe_files(load(environment={"ENTREPOT_DATA": str(tmp_path)}))

    elsewhere = {"ENTREPOT_DATABASE__URL": "postgresql://h/db"}
    preflight.refuse_unsafe_files(load(environment=elsewhere))


def test_a_certificate_that_cannot_be_read_is_refused(tmp_path):
    missing = str(tmp_path / "cert.pem")
    settings = load(
        environment={"ENTREPOT_TLS__CERT_FILE": missing, "ENTREPOT_TLS__KEY_FILE": missing}
    )

    with pytest.raises(SettingsInvalid, match="cannot read"):
        preflight.refuse_unsafe_files(settings)


@pytest.mark.parametrize(("mode", "is_safe"), [(0o600, True), (0o440, True), (0o644, False)])
def test_a_secret_key_is_not_for_every_user(tmp_path, mode, is_safe):
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    settings = load(environment={"ENTREPOT_SECRET_KEY_FILE": str(path)})

    with contextlib.nullcontext() if is_safe else pytest.raises(SettingsInvalid, match="chmod 600"):
        preflight.refuse_unsafe_files(settings)


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StartRefused, match="cannot use the data folder"):
        preflight.lock_data_folder(tmp_path / "file" / "data")


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(StartRefused, match=r"cannot listen on 192\.0\.2\.1:0"):
        preflight.listen("192.0.2.1", 0, 1)


def test_sockets_of_one_server_share_a_port_that_nobody_else_gets():
    sockets = preflight.listen("127.0.0.1", 0, 3)
    port = sockets[0].getsockname()[1]

    with pytest.raises(StartRefused, match=f"port {port} is taken by "):
        preflight.listen("127.0.0.1", port, 1)

    assert {listener.getsockname()[1] for listener in sockets} == {port}
    for listener in sockets:
        listener.close()
