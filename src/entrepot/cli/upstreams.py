"""`entrepot upstream`: other registries that repositories and mirrors get their content from."""

from typing import Any

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, Missing, Wrong, at
from entrepot.cli.messages import Refused, UsageError, command, repeated, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import (
    Columns,
    as_json,
    at_most,
    made,
    relative,
    show_json,
    show_list,
    show_one,
    size,
    when,
    words,
)
from entrepot.cli.session import Session, open_session
from entrepot.cli.upstream_credentials import (
    credential_of,
    credential_options,
    explain_aws,
    reads_secret,
)
from entrepot.model.upstreams import PRESETS


def _credential(item: Json) -> tuple[str, str]:
    kind, name = item["credential_kind"], item["credential_name"]
    return f"{kind}: {name}" if name else kind, f"{kind}:{name}" if name else kind


def _checked(item: Json) -> tuple[str, str]:
    if item["check_error"] is None:
        return "works", "works"
    return ("fails", "fails") if item["is_checked"] else ("unchecked", "unchecked")


def _state(item: Json) -> tuple[str, str]:
    state = item["state"]
    if until := state["paused_until"]:
        return f"down, {_asked_again(until)}: {state['reason']}", "down"
    if until := state["limited_until"]:
        return f"limited, {_asked_again(until)}: {state['reason']}", "limited"
    return "", ""


def _doing(item: Json) -> tuple[str, str]:
    """In a word; whether it was taken when it was tried, unless it is paused now."""
    word = _state(item)[1]
    return (word, word) if word else _checked(item)


def _asked_again(until: str) -> str:
    when_ = relative(until)
    return f"asked again {when_ if when_.startswith('in ') else 'by the next pull'}"


def _wrong(item: Json) -> tuple[str, str]:
    """What the last check found, else what went wrong last, and when."""
    if (found := item["check_error"]) is not None:
        return found, found
    state = item["state"]
    if (found := state["last_error"]) is None:
        return state["reason"] or "", state["reason"] or ""
    return f"{relative(state['last_failed_at'])}: {found}", found


def _limit(item: Json) -> tuple[str, str]:
    found = item["state"]["rate_limit"]
    if found is None or found["remaining"] is None:
        return "", ""
    total = f" of {found['limit']}" if found["limit"] is not None else ""
    window = f" in {found['window_seconds'] / 3_600:g} h" if found["window_seconds"] else ""
    return f"{found['remaining']}{total}{window}", str(found["remaining"])


_LIST: Columns = {
    "NAME": "name",
    "URL": "url",
    "CREDENTIAL": _credential,
    "STATE": _doing,
    "REQUESTS": "state.requests",
    "HITS": "state.hits",
    "LEFT": _limit,
    "MEMBERS": words("member_patterns"),
}
_ONE: Columns = {
    "name": "name",
    "id": "id",
    "organisation": "organisation",
    "preset": "preset",
    "url": "url",
    "credential": _credential,
    "external id": "external_id",
    "token service": "realm",
    "check": _checked,
    "checked": when("checked_at"),
    "wrong": _wrong,
    "members may mirror": words("member_patterns"),
    "state": _state,
    "limit left": _limit,
    "requests": "state.requests",
    "bytes": size("state.bytes"),
    "errors": "state.errors",
    "hits": "state.hits",
    "misses": "state.misses",
    "coalesced": "state.coalesced",
    "stale": "state.stale",
    "created": when("created_at"),
}
_members = click.option(
    "--members",
    multiple=True,
    metavar="PATTERN",
    help="Paths there of which members may make repositories: 'library/*', '**'.",
)


_FILE = " < FILE"  # where a secret is read from


@click.group()
def upstream() -> None:
    """Upstream registries, which repositories and mirrors get their content from."""


@upstream.command("add", short_help="Add a registry, once its credential was tried.")
@click.argument("name")
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), help="A kind of registry [NAME, or by --url]."
)
@click.option("--url", metavar="URL", help="Its address, where the preset has none.")
@click.option("--account", metavar="ID", help="AWS: 12 digits; Azure: the registry's name.")
@click.option("--region", metavar="REGION", help="AWS and Google: eu-central-1.")
@credential_options
@_members
@organisation_option
@as_json
def add_upstream(
    name: str, members: tuple[str, ...], organisation: str | None, **options: Any
) -> None:
    """Add a registry, once its address and credential were tried.

    The name of a preset is enough for those with one address: `upstream add ghcr`. For Docker Hub
    there is a credential to give, or --anonymous; for AWS --account and --region as well.
    """
    session = open_session()
    slug = session.organisation(organisation)
    given = {
        "preset": options["preset"],
        "url": options["url"],
        "account": options["account"],
        "region": options["region"],
        "credential": credential_of(options),
    }
    body: Json = {
        "name": name,
        "is_anonymous": options["anonymous"],
        "save_unchecked": options["save_unchecked"],
        "member_patterns": list(members),
    }
    body |= {field: value for field, value in given.items() if value is not None}
    if "ecr" in {name, options["preset"]} or (body.get("credential") or {}).get("kind") == "ecr":
        explain_aws(options, session.client.get(at("organisations", slug))["id"])
    try:
        found = session.client.create(at("organisations", slug, "upstreams"), body)
    except Wrong as error:
        raise _with_next(error, body, options) from None
    _say_kept(found, f"added upstream {name} to {slug}")
    example = "library/redis" if found["preset"] == "docker-hub" else "PATH"
    say(
        "pull one of its repositories through, or all of them:",
        command("repository", "create", f"{slug}/{example.rpartition('/')[2].lower()}")
        + f" --upstream {name} --upstream-repository {example}",
        command("mirror", "add", "PREFIX", "--upstream", name, "--org", slug),
    )
    made(found, found["name"], as_json=options["as_json"])


@upstream.command("list")
@organisation_option
@at_most
@as_json
def list_upstreams(organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List the upstreams of an organisation that you may use."""
    session = open_session()
    slug = session.organisation(organisation)
    found = session.client.pages(at("organisations", slug, "upstreams"), limit=limit)
    empty = (
        f"{slug} has no upstreams, or none for you",
        command("upstream", "add", "docker-hub", "--anonymous", "--org", slug),
    )
    spare = ("MEMBERS", "LEFT", "HITS", "REQUESTS")
    show_list(found, _LIST, as_json=as_json, empty=empty, spare=spare)


@upstream.command("show")
@click.argument("name")
@organisation_option
@as_json
def show_upstream(name: str, organisation: str | None, *, as_json: bool) -> None:
    """Show an upstream, and how it is doing."""
    session = open_session()
    found = _find(session, name, organisation)
    show_one(found, _ONE, as_json=as_json)
    if found["state"]["paused_until"] or found["check_error"]:
        slug = found["organisation"]
        say(
            f"{name} has failed: try it now, or give it another credential",
            command("upstream", "check", name, "--org", slug),
            command("upstream", "rotate", name, "--org", slug),
        )


@upstream.command("check", short_help="Try an upstream's address and credential now.")
@click.argument("name")
@click.option(
    "--accept-realm", is_flag=True, help="Take another token service than the first time."
)
@organisation_option
@as_json
def check_upstream(
    name: str, organisation: str | None, *, accept_realm: bool, as_json: bool
) -> None:
    """Try an upstream's address and credential now, and ask it again if it was down.

    Exit code 1 where something is wrong.
    """
    session = open_session()
    wanted = _find(session, name, organisation)
    path = at("upstreams", wanted["id"], "check")
    found = session.client.act(path, {"accept_realm": accept_realm})
    if as_json:
        show_json(found)
    if found["check_error"] is not None:
        raise Refused(
            f"{name} does not work: {found['check_error']}",
            command("upstream", "rotate", name, "--org", found["organisation"]),
            command("upstream", "show", name, "--org", found["organisation"]),
        )
    _say_kept(found, f"{name} works")


@upstream.command("rotate", short_help="Give an upstream another credential.")
@click.argument("name")
@credential_options
@organisation_option
@as_json
def rotate_upstream(name: str, organisation: str | None, **options: Any) -> None:
    """Give an upstream another credential, once it was tried; the old one stays if it fails."""
    credential = credential_of(options)
    if credential is None and not options["anonymous"]:
        raise UsageError(
            "say which credential, such as a user name with its token",
            repeated("--username", "NAME", "--password-stdin") + _FILE,
            repeated("--anonymous"),
        )
    _change(name, organisation, {}, credential, options)


@upstream.command("set", short_help="Change an upstream; what is not named stays.")
@click.argument("name")
@click.option("--name", "new_name", metavar="NAME", help="Another name.")
@click.option("--url", metavar="URL", help="Another address, with the credential for it.")
@_members
@click.option("--no-members", is_flag=True, help="Members may use it no more.")
@credential_options
@organisation_option
@as_json
def set_upstream(
    name: str,
    new_name: str | None,
    url: str | None,
    members: tuple[str, ...],
    organisation: str | None,
    *,
    no_members: bool,
    **options: Any,
) -> None:
    """Change an upstream; what is not named stays, patterns replace those before.

    Another address needs the credential again, and that nothing uses the upstream.
    """
    if members and no_members:
        raise UsageError("--members and --no-members exclude each other")
    body: Json = {}
    if new_name is not None:
        body["name"] = new_name
    if url is not None:
        body["url"] = url
    if members or no_members:
        body["member_patterns"] = list(members)
    _change(name, organisation, body, credential_of(options), options)


@upstream.command("rm")
@click.argument("name")
@organisation_option
@yes_option
def remove_upstream(name: str, organisation: str | None, *, yes: bool) -> None:
    """Remove an upstream that nothing uses, with its credential."""
    session = open_session()
    wanted = _find(session, name, organisation)
    slug = wanted["organisation"]
    confirm(f"Remove upstream {name} ({wanted['url']}) of {slug}?", yes=yes)
    session.client.delete(at("upstreams", wanted["id"]))
    say(f"removed upstream {name}", command("upstream", "list", "--org", slug))


def _change(
    name: str,
    organisation: str | None,
    body: Json,
    credential: Json | None,
    options: dict[str, Any],
) -> None:
    if credential is not None:
        body["credential"] = credential
    for field, option in (("is_anonymous", "anonymous"), ("save_unchecked", "save_unchecked")):
        if options[option]:
            body[field] = True
    if not body:
        raise UsageError("nothing to change; `entrepot upstream set --help` lists what can be")
    session = open_session()
    wanted = _find(session, name, organisation)
    if credential is not None and credential["kind"] == "ecr":
        slug = wanted["organisation"]
        explain_aws(options, session.client.get(at("organisations", slug))["id"])
    try:
        found = session.client.change(at("upstreams", wanted["id"]), body)
    except Wrong as error:
        raise _with_next(error, body, options) from None
    _say_kept(found, f"changed upstream {found['name']}")
    if options["as_json"]:
        show_json(found)


def _with_next(error: Wrong, body: Json, options: dict[str, Any]) -> Refused:
    """What was wrong, and where it was the credential, how to give another."""
    if "credential" not in error.fields:
        return error
    if "credential" not in body:
        return Refused(error.message, repeated("--username", "NAME", "--password-stdin") + _FILE)
    return Refused(error.message, repeated() + (_FILE if reads_secret(options) else ""))


def _say_kept(found: Json, what: str) -> None:
    """What was kept: where it is, where its credential goes, and whether that was tried."""
    has_credential = found["credential_kind"] != "none"
    say(f"{what}: {found['url']}, {'with' if has_credential else 'without'} a credential")
    if found["realm"] and has_credential:
        say(f"the credential goes there and to {found['realm']}, and nowhere else")
    if not found["is_checked"]:
        say(
            f"it was not checked: {found['check_error']}",
            command("upstream", "check", found["name"], "--org", found["organisation"]),
        )
    if found["url"].startswith("http://") and has_credential:
        say("it has no TLS: whoever is on the way can read the credential")


def _find(session: Session, name: str, organisation: str | None) -> Json:
    """An upstream by its name, read so that a change notices another. Raises Missing."""
    slug = session.organisation(organisation)
    for found in session.client.pages(at("organisations", slug, "upstreams")):
        if found["name"] == name:
            return session.client.get(at("upstreams", found["id"]))
    raise Missing(
        f"{slug} has no upstream {name}, or none that you may see",
        command("upstream", "list", "--org", slug),
        command("upstream", "add", name, "--org", slug),
    )
