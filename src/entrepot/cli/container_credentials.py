"""The files that docker, podman and Kubernetes keep credentials of registries in."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from entrepot.cli.messages import Refused
from entrepot.cli.private_files import read_object, write_private

USER = "x-token"  # any name will do; the token says who it is
_HELPER_SECONDS = 60.0


def docker_file() -> Path:
    """Docker's configuration."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def podman_file() -> Path:
    """The credentials of podman, buildah and skopeo."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path("/run/containers") / str(os.getuid())
    return folder / "containers" / "auth.json" if runtime else folder / "auth.json"


def store(path: Path, host: str, token: str) -> str:
    """Put a token where the file says that this host's credential belongs; where that is.

    Everything else in the file stays. Raises Refused.
    """
    document = read_object(path)
    helper = (document.get("credHelpers") or {}).get(host) or document.get("credsStore")
    auths = document.setdefault("auths", {})
    if not isinstance(auths, dict):
        raise Refused(f"auths in {path} is no object; mend it, or move it away")
    if helper:
        _store_by_helper(str(helper), host, token)
        auths[host] = {}  # as docker does: says that the helper has one
    else:
        auths[host] = auth_entry(token)
    write_private(path, json.dumps(document, indent="\t", ensure_ascii=False) + "\n")
    return f"docker-credential-{helper}" if helper else str(path)


def auth_entry(token: str) -> dict[str, Any]:
    """One entry of `auths`."""
    return {"auth": base64.b64encode(f"{USER}:{token}".encode()).decode()}


def _store_by_helper(helper: str, host: str, token: str) -> None:
    """The protocol of docker's credential helpers: `store`, and a document on standard input."""
    program = f"docker-credential-{helper}"
    document = json.dumps({"ServerURL": host, "Username": USER, "Secret": token})
    try:
        done = subprocess.run(  # noqa: S603  # the user's own configuration names it
            [program, "store"],
            input=document,
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        message = f"docker's configuration names {program}, which is not on the path"
        raise Refused(message) from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{program} did not answer within {_HELPER_SECONDS:.0f} s") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()  # helpers say it on standard output
        raise Refused(f"{program} refused the credential: {said}")
