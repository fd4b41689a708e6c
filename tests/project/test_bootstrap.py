import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bootstrap = load("bootstrap")
system_packages = load("system_packages")

PROGRAM = b"#!/bin/sh\necho uv 9.9.9\n"


@pytest.fixture
def wheel(tmp_path):
    file = tmp_path / "uv-9.9.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("uv-9.9.9.data/scripts/uv", PROGRAM)
        archive.writestr("uv/__init__.py", "")
    return file


def lock_of(wheel: Path, sha256: str | None = None) -> str:
    sha256 = sha256 or hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"""
[[package]]
name = "uv"
version = "9.9.9"
wheels = [
    {{ url = "{wheel.parent.as_uri()}/uv-9.9.9-py3-none-macosx_11_0_arm64.whl", hash = "sha256:00" }},
    {{ url = "{wheel.parent.as_uri()}/uv-9.9.9-py3-none-musllinux_1_1_x86_64.whl", hash = "sha256:11" }},
    {{ url = "{wheel.as_uri()}", hash = "sha256:{sha256}" }},
]
"""


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """No uv on PATH, no pip, an empty `.uv/`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bootstrap, "FOLDER", tmp_path / ".uv")
    monkeypatch.setattr(bootstrap, "LOCK", tmp_path / "uv.lock")
    monkeypatch.setattr(bootstrap, "fetch_with_pip", lambda *_: None)
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(bootstrap.platform, "libc_ver", lambda: ("glibc", "2.36"))
    return tmp_path


@pytest.mark.parametrize(
    ("system", "machine", "libc", "kind"),
    [
        ("Linux", "x86_64", "glibc", "manylinux_"),
        ("Linux", "x86_64", "", "musllinux_"),
        ("Linux", "aarch64", "glibc", "manylinux_"),
        ("Darwin", "arm64", "", "macosx_"),
        ("Darwin", "x86_64", "", "macosx_"),
    ],
)
def test_our_lock_pins_a_uv_for_every_platform_we_run_on(system, machine, libc, kind):
    lock = (ROOT / "uv.lock").read_text()

    wheel = bootstrap.locked_wheel(lock, system, machine, libc)

    assert kind in wheel.name
    assert machine in wheel.name
    assert len(wheel.sha256) == 64


def test_a_machine_without_uv_and_pip_gets_the_pinned_one(bare_machine, wheel):
    (bare_machine / "uv.lock").write_text(lock_of(wheel))

    uv = bootstrap.bring_uv()

    assert Path(uv).read_bytes() == PROGRAM
    assert [file.name for file in (bare_machine / ".uv").iterdir() if file.name != "uv"] == [
        ".gitignore"
    ]


def test_a_uv_that_was_brought_is_found_again(bare_machine, wheel, monkeypatch):
    (bare_machine / "uv.lock").write_text(lock_of(wheel))
    uv = bootstrap.bring_uv()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(bootstrap.shutil, "which", lambda _: None)

    assert bootstrap.find_uv() == uv


def test_a_file_that_the_lock_does_not_pin_is_never_unpacked(bare_machine, wheel):
    (bare_machine / "uv.lock").write_text(lock_of(wheel, sha256="22" * 32))

    with pytest.raises(bootstrap.BootstrapFailed, match="not the file"):
        bootstrap.bring_uv()

    assert not (bare_machine / ".uv" / "uv").exists()


def test_a_platform_without_a_wheel_is_told_what_to_type(bare_machine, wheel, monkeypatch, capsys):
    (bare_machine / "uv.lock").write_text(lock_of(wheel))
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "vax")

    code = bootstrap.main(["sync"])

    assert code == 1
    assert "pins no uv for Linux on vax" in capsys.readouterr().err


def test_an_old_python_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 2))

    code = bootstrap.main(["sync"])

    assert code == 1
    assert "at least 3.11" in capsys.readouterr().err


def test_every_system_package_says_why_it_is_needed():
    lines = system_packages.LIST.read_text().splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]

    assert entries
    for line in entries:
        fields, _, why = line.partition("#")
        assert len(fields.split()) == 2, line
        assert why.strip(), line


def test_what_is_on_path_is_not_missing(tmp_path, monkeypatch):
    program = tmp_path / "there"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    packages = system_packages.read("a there # why\nb not-there-at-all # why\n")

    assert system_packages.missing(packages) == ["b"]
