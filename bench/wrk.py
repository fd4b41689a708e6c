"""Request rates, measured with wrk (C, epoll: about a tenth of what the servers cost)."""

import re
import subprocess
from pathlib import Path

from bench.servers.process import BenchError, find_program

# What Docker, containerd and skopeo send; distribution answers 404 for a media type not listed.
ACCEPT = (
    "application/vnd.oci.image.index.v1+json,"
    "application/vnd.oci.image.manifest.v1+json,"
    "application/vnd.docker.distribution.manifest.list.v2+json,"
    "application/vnd.docker.distribution.manifest.v2+json"
)

_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_COUNT = re.compile(r"^\s*(\d+) requests in ", re.MULTILINE)
_P99 = re.compile(r"^\s*99%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_MILLISECONDS = {"us": 0.001, "ms": 1, "s": 1000}
_FAULT = re.compile(r"^\s*(Non-2xx.*|Socket errors.*)$", re.MULTILINE)


def requests_per_second(
    url: str, authorization: str, *, connections: int, seconds: float, script: Path | None = None
) -> float:
    """GET over keep-alive connections for a while. Raises BenchError if any answer is not 2xx."""
    output = _run(url, authorization, connections, seconds, script)
    return float(_found(_RATE, output)[1])


def requests(url: str, authorization: str, *, connections: int, seconds: float) -> int:
    """GET so for a while; how many were answered, by a redirect too."""
    return int(_found(_COUNT, _run(url, authorization, connections, seconds, None))[1])


def p99_milliseconds(url: str, authorization: str, *, connections: int, seconds: float) -> float:
    """Return the time within which 99 of 100 such requests are answered."""
    found = _found(_P99, _run(url, authorization, connections, seconds, None))
    return float(found[1]) * _MILLISECONDS[found[2]]


def _run(
    url: str, authorization: str, connections: int, seconds: float, script: Path | None
) -> str:
    command = [find_program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    command += ["--latency", "-H", f"Accept: {ACCEPT}"]
    if authorization:
        command += ["-H", f"Authorization: {authorization}"]
    if script is not None:
        command += ["-s", str(script)]
    output = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    if fault := _FAULT.search(output):
        raise BenchError(f"wrk {url}: {fault[1]}")
    return output


def _found(pattern: re.Pattern[str], output: str) -> re.Match[str]:
    found = pattern.search(output)
    if found is None:
        raise BenchError(f"wrk: {output}")
    return found
