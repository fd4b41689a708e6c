"""Programs of a newer Debian suite, unpacked beside the host, which stays as it is.

It works for programs that need little of the host: those written in Go.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

_CACHE = Path(__file__).resolve().parents[2] / ".cache"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SECONDS = 300


class Unobtainable(Exception):
    """The packages could not be had; the message says why."""


def unpack(suite: str, *packages: str) -> Path:
    """The folder with the unpacked packages, fetched once. Raises Unobtainable."""
    _CACHE.mkdir(exist_ok=True)
    folder = _CACHE / suite
    done = folder / ".packages"
    with (_CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text().split() == list(packages)):
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _fetch(suite, packages, folder)
            except (subprocess.SubprocessError, FileNotFoundError) as error:
                raise Unobtainable(_why(error)) from error
            finally:
                shutil.rmtree(folder / ".apt", ignore_errors=True)
            done.write_text(" ".join(packages))
    return folder


def _fetch(suite: str, packages: tuple[str, ...], folder: Path) -> None:
    state = folder / ".apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    sources = state / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {_mirror()} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state / "cache",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Retries": "3",
        "Acquire::Languages": "none",
    }
    apt = [
        "apt-get",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
    ]
    _run([*apt, "update"], state)
    _run([*apt, "download", *packages], state)
    for package in sorted(state.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder)], state)


def _mirror() -> str:
    """Where this machine has its Debian from."""
    listed = _run(["apt-get", "indextargets", "--format", "$(SITE)"], Path("/"))
    sites = [site for site in listed.split() if "debian" in site and "security" not in site]
    if not sites:
        raise FileNotFoundError("a Debian mirror in apt's sources")
    return sites[0]


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    ).stdout


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else str(error)
    return str(error)
