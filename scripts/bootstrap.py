"""Run uv, and bring it first where it is missing.

`python3 scripts/bootstrap.py sync --frozen` runs `uv sync --frozen` with, in this order: the uv on
PATH; the one an earlier run left in `.uv/`; the wheel that uv.lock pins, fetched by pip where pip
is there and straight from the address in uv.lock where it is not. A plain Debian has neither pip
nor ensurepip, so this file needs the standard library only, and no root.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "uv.lock"
FOLDER = ROOT / ".uv"
OLDEST_PYTHON = (3, 11)
# The first uv that has read every lock file of this project.
OLDEST_UV = (0, 9)
SECONDS_WITHOUT_A_BYTE = 60


class BootstrapFailed(Exception):
    """A sentence that says what to do next."""


@dataclass(frozen=True)
class Wheel:
    """The file of one platform's uv, as uv.lock pins it."""

    version: str
    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def locked_wheel(lock: str, system: str, machine: str, libc: str) -> Wheel:
    """The wheel in the text of uv.lock that runs here. Raises BootstrapFailed."""
    import tomllib  # noqa: PLC0415  # absent before 3.11, where main has to say so first

    package = next((p for p in tomllib.loads(lock)["package"] if p["name"] == "uv"), None)
    if package is None:
        message = "uv.lock does not pin uv"
        raise BootstrapFailed(message)
    linux = "manylinux_" if libc == "glibc" else "musllinux_"
    kind = "macosx_" if system == "Darwin" else linux
    for entry in package["wheels"]:
        tags = entry["url"].rpartition("/")[2].removesuffix(".whl").split("-")[-1].split(".")
        if any(tag.startswith(kind) and tag.endswith("_" + machine) for tag in tags):
            return Wheel(package["version"], entry["url"], entry["hash"].removeprefix("sha256:"))
    message = f"uv.lock pins no uv for {system} on {machine}"
    raise BootstrapFailed(message)


def find_uv() -> str | None:
    """A uv that is here already and new enough."""
    for candidate in (shutil.which("uv"), str(FOLDER / "uv")):
        if candidate is None or not Path(candidate).is_file():
            continue
        shown = subprocess.run(
            [candidate, "--version"], capture_output=True, text=True, check=False
        ).stdout
        version = re.match(r"uv (\d+)\.(\d+)", shown)
        if version and (int(version[1]), int(version[2])) >= OLDEST_UV:
            return candidate
    return None


def bring_uv() -> str:
    """Put the pinned uv into `.uv/`. Raises BootstrapFailed."""
    wheel = locked_wheel(
        LOCK.read_text(encoding="utf-8"),
        platform.system(),
        platform.machine(),
        platform.libc_ver()[0],
    )
    print(f"uv is not on PATH: fetching {wheel.name} into {FOLDER}", file=sys.stderr)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        file = fetch_with_pip(wheel, Path(scratch)) or fetch(wheel, Path(scratch))
        if hashlib.sha256(file.read_bytes()).hexdigest() != wheel.sha256:
            message = f"{wheel.name} is not the file that uv.lock pins: nothing was installed"
            raise BootstrapFailed(message)
        return unpack(file, FOLDER / "uv")


def fetch_with_pip(wheel: Wheel, folder: Path) -> Path | None:
    """The wheel by pip, which knows this machine's mirrors and proxies; None without pip."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"uv=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary"]
    command += [":all:", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    subprocess.run(command, stdout=sys.stderr, stderr=subprocess.DEVNULL, check=False)
    return next(folder.glob("*.whl"), None)


def fetch(wheel: Wheel, folder: Path) -> Path:
    """The wheel from the address in uv.lock. Raises BootstrapFailed."""
    try:
        return download(wheel, folder, ssl.create_default_context())
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            message = f"cannot fetch {wheel.url}: {error.reason}"
            raise BootstrapFailed(message) from error
    # A minimal system has no certificates. What decides is the SHA-256 in uv.lock, checked by the
    # caller before anything is unpacked; the address is public.
    print("no certificate here vouches for the server; uv.lock's hash decides", file=sys.stderr)
    try:
        return download(wheel, folder, ssl._create_unverified_context())  # noqa: S323, SLF001
    except OSError as error:
        message = f"cannot fetch {wheel.url}: {error}"
        raise BootstrapFailed(message) from error


def download(wheel: Wheel, folder: Path, context: ssl.SSLContext) -> Path:
    """Copy the address into a file in `folder`."""
    target = folder / wheel.name
    request = urllib.request.urlopen(  # noqa: S310  # the address is uv.lock's
        wheel.url, timeout=SECONDS_WITHOUT_A_BYTE, context=context
    )
    with request as body, target.open("wb") as file:
        shutil.copyfileobj(body, file)
    return target


def unpack(wheel: Path, target: Path) -> str:
    """Take the one program out of the wheel; its name appears only when it is whole."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        partial = wheel.with_name("uv")
        with archive.open(member) as packed, partial.open("wb") as file:
            shutil.copyfileobj(packed, file)
    partial.chmod(0o755)
    partial.replace(target)
    return str(target)


def main(arguments: list[str]) -> int:
    """Become uv with these arguments; the exit code is for when that cannot be."""
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        print(
            f"This needs python3 of at least {wanted}; {sys.executable} is "
            f"{platform.python_version()}. Name another: make PYTHON=python{wanted} …",
            file=sys.stderr,
        )
        return 1
    try:
        uv = find_uv() or bring_uv()
    except (BootstrapFailed, OSError) as error:
        print(
            f"{error}.\nInstall uv yourself and run this again, for example:\n"
            "    sudo apt-get install -y pipx && pipx install uv && export PATH=~/.local/bin:$PATH",
            file=sys.stderr,
        )
        return 1
    # The python3 that runs this is new enough, so uv never has a reason to fetch another one.
    os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")
    os.chdir(ROOT)
    return os.execv(uv, [uv, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
