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
_FAULT = re.compile(r"^\s*(Non-2xx.*|Socket errors.*)$", re.MULTILINE)


def requests_per_second(
    url: str, authorization: str, *, connections: int, seconds: float, script: Path | None = None
) -> float:
    """GET over keep-alive connections for a while. Raises BenchError if any answer is not 2xx."""
    command = [find_program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    command += ["-H", f"Accept: {ACCEPT}"]
    if authorization:
        command += ["-H", f"Authorization: {authorization}"]
    if script is not None:
        command += ["-s", str(script)]
    output = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    rate, fault = _RATE.search(output), _FAULT.search(output)
    if rate is None or fault is not None:
        raise BenchError(f"wrk {url}: {fault[1] if fault else output}")
    return float(rate[1])
