"""`entrepot kubernetes-secret`: what a cluster needs to pull."""

import base64
import json
import re

import click

from entrepot.cli.client import Json, is_loopback
from entrepot.cli.container_credentials import USER, auth_entry
from entrepot.cli.durations import lifetime
from entrepot.cli.messages import UsageError, command, repeated, say
from entrepot.cli.options import organisation_option
from entrepot.cli.output import as_json, relative, show_json
from entrepot.cli.session import open_session
from entrepot.cli.tokens import make_pull_token

# Kubernetes, "Names": a DNS subdomain, and for namespaces a DNS label.
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NAMESPACE = re.compile(_LABEL)


def _lifetime(text: str) -> int:
    if text in {"never", "none", "0"}:
        raise click.BadParameter(
            "a secret in a cluster is copied into backups and nodes, and nobody sees who reads it:"
            " it has to end. Take as much as you need, such as 730d, and run this again before"
        )
    return lifetime()(text)


@click.command("kubernetes-secret")
@click.argument("name")
@click.option("--namespace", help="The namespace of the Secret [the one kubectl uses].")
@organisation_option
@click.option("--project", help="Id or name: only its builds and what it is linked to.")
@click.option("--repository", "patterns", multiple=True, metavar="PATTERN", help="Only these.")
@click.option("--expires", type=_lifetime, metavar="DURATION", default="365d", show_default=True)
@click.option("--host", help="The registry as image names in the cluster say it [the server's].")
@as_json
def kubernetes_secret(
    name: str,
    namespace: str | None,
    organisation: str | None,
    project: str | None,
    patterns: tuple[str, ...],
    expires: int,
    host: str | None,
    *,
    as_json: bool,
) -> None:
    """Make a token that can only pull, and print it as the manifest of a pull secret.

    Run again with the same NAME before it ends: applying the new manifest replaces the token.
    """
    if _NAME.fullmatch(name) is None:
        raise click.BadParameter(f"{name} is no name that Kubernetes takes", param_hint="NAME")
    if namespace is not None and _NAMESPACE.fullmatch(namespace) is None:
        raise click.BadParameter(f"{namespace} is no namespace", param_hint="--namespace")
    session = open_session()
    if host is None and is_loopback(session.server):
        raise UsageError(
            f"a cluster does not find this machine as {session.host}; say with --host how image"
            " names there call the registry",
            repeated("--host", "registry.example.com"),
        )
    found = make_pull_token(
        session, organisation, project, patterns, expires, name=f"kubernetes {name}"[:100]
    )
    secret = _secret(name, namespace, host or session.host, found)
    if as_json:
        show_json(secret)
    else:
        click.echo(_yaml(secret), nl=False)
    where = f" -n {namespace}" if namespace else ""
    patch = json.dumps({"imagePullSecrets": [{"name": name}]}, separators=(",", ":"))
    say(
        f"made pull token {found['id']}, which ends {relative(found['expires_at'])}; write the"
        f" manifest above to {name}.yaml, or pipe it to kubectl apply -f -",
        f"kubectl apply -f {name}.yaml",
        f"kubectl patch serviceaccount default{where} -p '{patch}'",
        command("token", "revoke", found["id"]),
    )


def _secret(name: str, namespace: str | None, host: str, token: Json) -> Json:
    """A Secret of type kubernetes.io/dockerconfigjson."""
    entry = {"username": USER, "password": token["token"], **auth_entry(token["token"])}
    document = json.dumps({"auths": {host: entry}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "annotations": {
                "entrepot/token": token["id"],
                "entrepot/expires-at": token["expires_at"],
            },
        },
        "data": {".dockerconfigjson": base64.b64encode(document.encode()).decode()},
    }


def _yaml(value: Json, indent: str = "") -> str:
    """Nested objects of text as YAML: a JSON string is a YAML scalar, whatever is in it."""
    lines = ""
    for name, inner in value.items():
        if isinstance(inner, dict):
            lines += f"{indent}{name}:\n{_yaml(inner, indent + '  ')}"
        else:
            lines += f"{indent}{name}: {json.dumps(inner)}\n"
    return lines
