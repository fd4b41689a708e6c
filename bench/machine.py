"""What the figures were measured on: a ratio needs no machine, a doubt does."""

import os
import platform
import statistics
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bench.servers.process import find_program

_SYNCS = 200
_BLOCK = 4096
_REPOSITORY = Path(__file__).parents[1]


def facts(folder: Path) -> dict[str, Any]:
    """Return what can matter: cores, memory, kernel, disk, versions, and how busy it is."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "file_system": _file_system(folder),
        "fdatasync_ms": _sync_latency(folder),
        "load_before": os.getloadavg()[0],
        "versions": _versions(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _file_system(folder: Path) -> str:
    mounts = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(mount.mountpoint)
    ]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""


def _sync_latency(folder: Path) -> dict[str, float]:
    """Append and fdatasync small blocks: the price of one durable commit on this disk."""
    path = folder / "syncs"
    block = os.urandom(_BLOCK)
    times = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            os.write(file, block)
            os.fdatasync(file)
            times.append(1000 * (time.perf_counter() - started))
    finally:
        os.close(file)
        path.unlink()
    return {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[-1]}


def _versions() -> dict[str, str]:
    return {
        "entrepot": f"{metadata.version('entrepot')} {_commit()}",
        "python": platform.python_version(),
        "granian": metadata.version("granian"),
        "distribution": _first_line("docker-registry", "docker-registry", "--version"),
        "nginx": _first_line("nginx", "nginx", "-v"),
        "wrk": _first_line("wrk", "wrk", "-v"),
    }


def _commit() -> str:
    command = ["git", "-C", str(_REPOSITORY), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _first_line(program: str, package: str, option: str) -> str:
    # nginx and wrk say their version on the wrong stream, or with the wrong status.
    command = [find_program(program, package), option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0].strip()
