"""What whoever started a new registry types first."""

import os
import shutil
import sys
from pathlib import Path

from entrepot.model.retention import Retention


def first_lines(server: str, token_file: Path, token: str, kept: Retention) -> list[str]:
    """What a first start says. `server` is its address; the token is shown on a terminal only."""
    host = server.partition("://")[2]
    try:
        shown: Path = token_file.relative_to(Path.cwd())
    except ValueError:
        shown = token_file
    lines = [f"first start: organisation main, user admin; the token of admin is in {shown}"]
    if os.isatty(1):
        lines.append(f"  {token}")
    return [
        *lines,
        "to manage the registry, in another terminal in this folder:",
        f"  {_program()} login {server} --token-stdin < {shown}",
        "to push a first image:",
        f"  docker login {host} -u x-token --password-stdin < {shown}",
        f"  docker pull alpine && docker tag alpine {host}/alpine:v1",
        f"  docker push {host}/alpine:v1",
        "or with podman:",
        f"  podman login --tls-verify=false {host} -u x-token --password-stdin < {shown}",
        "  podman pull docker.io/library/alpine",
        f"  podman push --tls-verify=false alpine {host}/alpine:v1",
        f"images are kept: {kept}; to change that for all of them, here for 30 days:",
        f"  {_program()} retention set --org main --days 30",
    ]


def _program() -> str:
    """This program as it can be typed where the server was started."""
    return "entrepot" if shutil.which("entrepot") else sys.argv[0]
