"""`entrepot retention`: for how long what was pushed is kept."""

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from entrepot.cli.asking import confirm
from entrepot.cli.client import Client, Json, at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import Columns, as_json, show_json, show_one
from entrepot.cli.retention_preview import (
    body_of,
    preview,
    run,
    show_preview,
    show_repositories,
    summary,
    totals_of,
)
from entrepot.cli.session import Session, open_session
from entrepot.model.errors import FieldInvalid
from entrepot.model.retention import MOST_DAYS, MOST_TAGS, Retention

_days = click.IntRange(1, MOST_DAYS)
_POLICY = (
    click.option("--days", type=_days, help="So long since its last push: 1, 7, 14, 30, or any."),
    click.option(
        "--tags",
        type=click.IntRange(1, MOST_TAGS),
        help="So many, those pushed last: 5, 10, 25, 50, 100, or any.",
    ),
    click.option("--never", is_flag=True, help="Delete nothing."),
    click.option("--inherit", is_flag=True, help="As the organisation has it, or the server."),
    click.option(
        "--keep", multiple=True, metavar="PATTERN", help="Tags that stay and do not count: 'v*'."
    ),
    click.option("--pulled-days", type=_days, help="Keep what was pulled within so many days."),
    click.option("--untagged-days", type=_days, help="For manifests without a tag [as for tags]."),
)
_WHOSE = {
    "repository": "the repository",
    "organisation": "its organisation",
    "server": "the server",
}
_ONE: Columns = {
    "name": "name",
    "keeps": "sentence",
    "said by": lambda item: (_WHOSE[item["source"]], item["source"]),
    "without its own policy": lambda item: (
        (str(_policy_of(item["inherited"])) if item["own"] else "the same",) * 2
    ),
}
_OF_ORGANISATION: Columns = {
    "organisation": "slug",
    "keeps": "sentence",
    "said by": lambda item: (_WHOSE[item["source"]], item["source"]),
}


def _policy_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_POLICY):
        function = option(function)
    return function


@click.group()
def retention() -> None:
    """How long what is pushed is kept.

    A tag ages from its last push: --days 1, 7, 14 and 30 are usual. Or the newest tags stay: --tags
    5, 10, 25, 50 or 100. A repository's policy holds in place of its organisation's, and that in
    place of the server's. What an upstream gave is not touched.
    """


@retention.command("show")
@click.argument("path", required=False)
@organisation_option
@as_json
def show_retention(path: str | None, organisation: str | None, *, as_json: bool) -> None:
    """Show what holds, and who said so: repository, organisation, server."""
    _require_one(path, at_least=False)
    session = open_session()
    if path is not None:
        name, _, found = _of_repository(session, path)
        show_one({"name": name, **found}, _ONE, as_json=as_json)
        return
    slug = session.organisation(organisation)
    owner = session.client.get(at("organisations", slug))
    shown = {
        "slug": owner["slug"],
        "effective": owner["effective_retention"],
        "sentence": str(_policy_of(owner["effective_retention"])),
        "source": "organisation" if owner["retention"] else "server",
        "own": owner["retention"],
    }
    show_one(shown, _OF_ORGANISATION, as_json=as_json)


@retention.command("set", short_help="Change a policy; what would go more is shown first.")
@click.argument("path", required=False)
@organisation_option
@_policy_options
@yes_option
@as_json
def set_retention(
    path: str | None,
    organisation: str | None,
    *,
    yes: bool,
    as_json: bool,
    **said: Any,  # of `_policy_options`
) -> None:
    """Change the policy of a repository, or with --org of an organisation.

    The new policy replaces the old one as a whole. Where more goes by it than now, that is shown
    first, and asked.
    """
    policy = _wanted(said, is_required=True)
    _require_one(path)
    session = open_session()
    if path is not None:
        shown = _set_for_repository(session, path, policy, yes=yes, is_shown=not as_json)
    else:
        slug = session.organisation(organisation)
        shown = _set_for_organisation(session, slug, policy, yes=yes, is_shown=not as_json)
    if as_json:
        show_json(shown)


@retention.command("preview", short_help="Show what would go, and why; nothing is changed.")
@click.argument("path")
@_policy_options
@click.option("--all", "everything", is_flag=True, help="What stays, too.")
@click.option("--limit", type=click.IntRange(1), help="Lines at most [20 on a terminal].")
@as_json
def preview_retention(
    path: str,
    *,
    everything: bool,
    limit: int | None,
    as_json: bool,
    **said: Any,  # of `_policy_options`
) -> None:
    """Show what would go by a policy, the one that holds if none is named, and why.

    Nothing is changed.
    """
    policy = _wanted(said, is_required=False)
    session = open_session()
    name, repository, found = _of_repository(session, path)
    tried = policy
    if said["inherit"]:
        tried = _policy_of(found["inherited"])
    effective = tried or _policy_of(found["effective"])
    lines, totals = preview(
        session.client, repository, tried, everything=everything, limit=limit, as_json=as_json
    )
    if as_json:
        show_json({"name": name, "policy": body_of(effective), **totals, "items": lines})
        return
    show_preview(lines, totals, name, str(effective), everything=everything)


@retention.command("run")
@click.argument("path")
@as_json
def run_retention(path: str, *, as_json: bool) -> None:
    """Have go now what the policy lets go, instead of within the hour."""
    session = open_session()
    name, repository, _ = _of_repository(session, path)
    removed = run(session.client, repository)
    if as_json:
        show_json(removed)
        return
    went = summary(removed)
    if not removed["is_done"]:
        say(f"{went} went from {name} so far; the rest goes by itself")
    elif went == summary({}):
        say(f"nothing went from {name}", command("retention", "preview", path, "--all"))
    else:
        say(
            f"{went} went from {name}; until they are collected they can be restored",
            command("tag", "history", f"{path}:TAG"),
        )


def _set_for_repository(
    session: Session, path: str, policy: Retention | None, *, yes: bool, is_shown: bool
) -> Json:
    name, repository, found = _of_repository(session, path)
    where = at("repositories", repository, "retention")
    tried = policy or _policy_of(found["inherited"])
    if not yes:
        _ask_if_more(session.client, repository, tried, name, is_shown=is_shown)
    if policy is None:
        if found["own"] is not None:
            session.client.delete(where)
    else:
        session.client.put(where, body_of(policy))
    shown = session.client.get(where)
    say(f"{name} keeps: {shown['sentence']}", command("retention", "preview", path))
    return {"name": name, **shown}


def _ask_if_more(
    client: Client, repository: str, tried: Retention, name: str, *, is_shown: bool
) -> None:
    """Where more goes by a policy than now, show it and ask. Raises UsageError, Abort."""
    lines, totals = preview(client, repository, tried, everything=False, limit=None, as_json=False)
    if not totals["proposed"]["only"]:
        return
    if is_shown:
        show_preview(lines, totals, name, str(tried), everything=False)
    confirm(f"Let {summary(totals['proposed'])} go from {name}?", yes=False)


def _set_for_organisation(
    session: Session, slug: str, policy: Retention | None, *, yes: bool, is_shown: bool
) -> Json:
    where = at("organisations", slug)
    owner = session.client.get(where)
    if not yes:
        tried = policy or _policy_of(owner["inherited_retention"])
        found = totals_of(session.client, slug, tried)
        more = sum(each["proposed"]["only"] for each in found)
        if more:
            if is_shown:
                show_repositories(found)
            word = "goes" if more == 1 else "go"
            confirm(f"By this policy {more:,} more {word} from {slug}. Change it?", yes=False)
    changed = session.client.change(
        where, {"retention": body_of(policy) if policy is not None else None}
    )
    kept = _policy_of(changed["effective_retention"])
    say(
        f"repositories of {slug} without a policy of their own keep: {kept}",
        command("retention", "show", "--org", slug),
    )
    return changed


def _of_repository(session: Session, path: str) -> tuple[str, str, Json]:
    """Name and id of a repository, and what holds for it."""
    found = session.repository(path)
    name = f"{found['organisation']['slug']}/{found['path']}"
    return name, found["id"], session.client.get(at("repositories", found["id"], "retention"))


def _require_one(path: str | None, *, at_least: bool = True) -> None:
    """A repository or an organisation, not both; ENTREPOT_ORG alone names neither."""
    context = click.get_current_context()
    is_named = context.get_parameter_source("organisation") is ParameterSource.COMMANDLINE
    if path is not None and is_named:
        raise UsageError("PATH names a repository, --org an organisation: say one of them")
    if at_least and path is None and not is_named:
        raise UsageError(
            "whose policy? say PATH, or --org for a whole organisation",
            command("repository", "list"),
        )


def _wanted(said: dict[str, Any], *, is_required: bool) -> Retention | None:
    """The policy that the options say; None for `--inherit`, and for none where none is required.

    Raises UsageError.
    """
    modes = [name for name in ("days", "tags", "never", "inherit") if said[name]]
    extra = [name for name in ("keep", "pulled_days", "untagged_days") if said[name]]
    if len(modes) > 1 or (not modes and (is_required or extra)):
        raise UsageError("say one of --days N, --tags N, --never and --inherit")
    if said["inherit"]:
        if extra:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in extra)
            raise UsageError(f"--inherit takes the whole policy, so {names} cannot be with it")
        return None
    if not modes:
        return None
    try:
        return Retention.parse({name: value for name, value in said.items() if name != "inherit"})
    except FieldInvalid as error:
        raise UsageError(error.message) from error


def _policy_of(found: Json) -> Retention:
    return Retention.parse(found)
