"""Install the Debian packages that `make test` needs, or say exactly what to type.

As root it installs what is missing; on a terminal it asks and uses sudo; else it stops.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("system-packages.txt")
# Debian starts what it installs. Ours are started by the tests, on ports of their own: a second
# registry on port 5000 would only be in the way.
STARTS_BY_ITSELF = ("docker-registry", "nginx", "postgresql", "pgbouncer", "docker", "containerd")
POLICY = Path("/usr/sbin/policy-rc.d")
CLUSTER = Path("/etc/postgresql-common/createcluster.d/entrepot.conf")


@dataclass(frozen=True)
class Package:
    """A Debian package and the command that shows it is there."""

    name: str
    command: str


def read(text: str) -> list[Package]:
    """The packages that a list names."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [Package(*fields) for fields in lines if fields]


def missing(packages: list[Package]) -> list[str]:
    """The names of those whose command is nowhere on this machine."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"))  # noqa: PTH207  # a constant pattern
    path = os.pathsep.join(folders)
    return [p.name for p in packages if shutil.which(p.command, path=path) is None]


def install(names: list[str]) -> int:
    """Install as root without starting any service; the exit code of apt-get."""
    quiet = not POLICY.exists()
    if quiet:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        POLICY.chmod(0o755)
    CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    CLUSTER.write_text("create_main_cluster = false\n", encoding="utf-8")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    try:
        subprocess.run([*apt, "update"], env=environment, check=False)
        command = [*apt, "install", "-y", "--no-install-recommends", *names]
        code = subprocess.run(command, env=environment, check=False).returncode
    finally:
        CLUSTER.unlink(missing_ok=True)
        if quiet:
            POLICY.unlink(missing_ok=True)
    services = [name for name in STARTS_BY_ITSELF if name in {n.removesuffix(".io") for n in names}]
    if services and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", "--quiet", *services], check=False)
    return code


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything is there."""
    packages = read(LIST.read_text(encoding="utf-8"))
    if arguments == ["--list"]:
        print(" ".join(p.name for p in packages))
        return 0
    names = missing(packages)
    if not names:
        return 0
    by_hand = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(names)}"
    print(f"The tests need these Debian packages: {' '.join(names)}", file=sys.stderr)
    if shutil.which("apt-get") is None:
        print("There is no apt-get here: install what provides them.", file=sys.stderr)
        return 1
    if os.geteuid() == 0:
        code = install(names)
        left = missing(packages)
        if left:
            print(f"Still missing: {' '.join(left)}. Type:\n    {by_hand}", file=sys.stderr)
        return 1 if left else code
    if sys.stdin.isatty() and shutil.which("sudo"):
        answer = input("Install them now with sudo? [y/N] ")
        if answer.strip().lower() in {"y", "yes"}:
            again = ["sudo", sys.executable, str(Path(__file__).resolve())]
            return subprocess.run(again, check=False).returncode
    print(f"Type this as root, then run make test again:\n    {by_hand}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
