"""Options that say how an upstream knows us, and what AWS has to allow for that."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from entrepot.cli.asking import ask_secret, first_line
from entrepot.cli.client import Json
from entrepot.cli.messages import UsageError, say
from entrepot.model.upstreams import external_id_of

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--username", metavar="NAME", help="Log in with a name and a password or token."),
    click.option("--password-stdin", is_flag=True, help="Read that password from standard input."),
    click.option("--token-stdin", is_flag=True, help="Read a bearer token, sent as it is."),
    click.option(
        "--key-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Google: the key of a service account.",
    ),
    click.option("--tenant", metavar="ID", help="Azure: the directory of a service principal."),
    click.option("--client-id", metavar="ID", help="Azure: its application id."),
    click.option("--access-key-id", metavar="ID", help="AWS: an access key."),
    click.option("--role-arn", metavar="ARN", help="AWS: a role to assume."),
    click.option(
        "--own-identity", is_flag=True, help="AWS: the server's, where its operator lends it."
    ),
    click.option(
        "--secret-stdin", is_flag=True, help="AWS, Azure: read the secret from standard input."
    ),
    click.option("--anonymous", is_flag=True, help="No credential, whatever limits that has."),
    click.option(
        "--save-unchecked", is_flag=True, help="Save it although the upstream is out of reach now."
    ),
)
_TAGS = "ecr:ListImages"
_READ = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")


def credential_options(function: F) -> F:
    """The options of commands that give an upstream its credential."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def credential_of(options: Mapping[str, Any]) -> Json | None:
    """The credential that was typed; None for none. Raises UsageError for half of one, or two."""
    kinds = {
        "--username": options["username"],
        "--token-stdin": options["token_stdin"],
        "--key-file": options["key_file"],
        "--client-id": options["client_id"] or options["tenant"],
        "AWS": options["access_key_id"] or options["role_arn"] or options["own_identity"],
        "--anonymous": options["anonymous"],
    }
    given = [name for name, value in kinds.items() if value]
    if len(given) > 1:
        raise UsageError(f"one credential at a time: {', '.join(given)} exclude each other")
    _require_reader(options)
    if options["username"]:
        secret = _secret("password", from_stdin=options["password_stdin"], how="--password-stdin")
        return {"kind": "basic", "username": options["username"], "password": secret}
    if options["token_stdin"]:
        return {"kind": "bearer", "token": first_line("token")}
    if options["key_file"]:
        return {"kind": "google", "key_json": options["key_file"].read_text("utf-8")}
    if kinds["--client-id"]:
        if not (options["tenant"] and options["client_id"]):
            raise UsageError("--tenant and --client-id go together")
        secret = _secret("client secret", from_stdin=options["secret_stdin"], how="--secret-stdin")
        return {
            "kind": "azure",
            "tenant": options["tenant"],
            "client_id": options["client_id"],
            "client_secret": secret,
        }
    return _of_aws(options) if kinds["AWS"] else None


def reads_secret(options: Mapping[str, Any]) -> bool:
    """Whether a secret is read from standard input."""
    return any(options[name] for name in ("password_stdin", "token_stdin", "secret_stdin"))


def explain_aws(options: Mapping[str, Any], organisation_id: str) -> None:
    """Say what AWS has to allow: whose trust the role needs, and what it may do at least."""
    if options["role_arn"]:
        trust = _policy(
            {
                "Effect": "Allow",
                "Principal": {"AWS": "ARN OF WHO ASSUMES THE ROLE"},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": external_id_of(organisation_id)}},
            }
        )
        who = "this access key's user" if options["access_key_id"] else "the server's identity"
        say(f"the role has to trust {who}, under an external id of this organisation:\n{trust}")
    region, account = options.get("region") or "REGION", options.get("account") or "ACCOUNT"
    rights = _policy(
        {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": [*_READ, _TAGS],
            "Resource": f"arn:aws:ecr:{region}:{account}:repository/*",
        },
    )
    say(f"all that it has to be allowed to do:\n{rights}")


def _policy(*statements: Json) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=2)


def _of_aws(options: Mapping[str, Any]) -> Json:
    found = {"kind": "ecr"}
    if options["role_arn"]:
        found["role_arn"] = options["role_arn"]
    if options["access_key_id"]:
        found["access_key_id"] = options["access_key_id"]
        found["secret_access_key"] = _secret(
            "secret access key", from_stdin=options["secret_stdin"], how="--secret-stdin"
        )
    return found


def _require_reader(options: Mapping[str, Any]) -> None:
    """What is read from standard input has to be of something."""
    if options["password_stdin"] and not options["username"]:
        raise UsageError("--password-stdin goes with --username NAME")
    if options["secret_stdin"] and not (options["access_key_id"] or options["client_id"]):
        raise UsageError("--secret-stdin goes with --access-key-id or --client-id")


def _secret(what: str, *, from_stdin: bool, how: str) -> str:
    return first_line(what) if from_stdin else ask_secret(what.capitalize(), how)
