"""Options of `entrepot repository` that are about an upstream, and how an upstream is shown."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from entrepot.cli.client import Json
from entrepot.cli.messages import UsageError, command
from entrepot.cli.output import Columns, value_of, when, words, yes_no

F = TypeVar("F", bound=Callable[..., Any])

_SYNC = "sync"
# What each option is called in the API. One that was not given is None, an empty tuple or False.
_FIELDS = ("sync", "keeps_deleted", "accepts_push", "may_shadow", "warm_tags", "warm_platforms")


def _comes_from(item: Json) -> tuple[str, str]:
    upstream = item["upstream"]
    text = f"{upstream['name']}/{upstream['path']}" if upstream else ""
    return text, text


def _freshness(item: Json) -> tuple[str, str]:
    found = str(value_of(item, "upstream.freshness"))
    return ("as of the last sync" if found == _SYNC else f"{found} s"), found


FROM: Columns = {"FROM": _comes_from}
UPSTREAM: Columns = {
    "upstream": "upstream.name",
    "upstream repository": "upstream.path",
    "freshness": _freshness,
    "sync": "upstream.sync",
    "keeps deleted tags": yes_no("upstream.keeps_deleted"),
    "accepts pushes": yes_no("upstream.accepts_push"),
    "may shadow tags": yes_no("upstream.may_shadow"),
    "warm tags": words("upstream.warm_tags"),
    "warm platforms": words("upstream.warm_platforms", "all"),
    "last used": when("upstream.accessed_at"),
    "last synced": when("upstream.last_synced_at"),
    "last sync error": "upstream.last_sync_error",
}


class _Freshness(click.ParamType[int | str]):
    """Seconds, or a word."""

    name = "freshness"

    def convert(
        self,
        value: Any,  # noqa: ANN401  # click's signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | str:
        """A number, or `sync` or `usual`."""
        text = str(value)
        if text in {_SYNC, "usual"}:
            return text
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{text} is neither seconds nor sync nor usual", param, ctx)
        return int(text)


_SET = (
    click.option(
        "--freshness",
        type=_Freshness(),
        metavar="SECONDS|sync|usual",
        help="For how long a tag is not asked for again; sync: until the next one.",
    ),
    click.option("--sync", metavar="all|PATTERN|newest:N", help="Tags that a sync brings."),
    click.option(
        "--keep-deleted/--drop-deleted",
        "keeps_deleted",
        default=None,
        help="Whether a tag that is gone upstream stays.",
    ),
    click.option(
        "--accept-push/--refuse-push",
        "accepts_push",
        default=None,
        help="Whether people may push beside what is mirrored.",
    ),
    click.option(
        "--may-shadow/--no-shadow",
        "may_shadow",
        default=None,
        help="Whether they may push over the upstream's tags too.",
    ),
    click.option(
        "--warm",
        "warm_tags",
        multiple=True,
        metavar="PATTERN",
        help="Tags whose blobs a sync brings too.",
    ),
    click.option(
        "--platform",
        "warm_platforms",
        multiple=True,
        metavar="OS/ARCH",
        help="Platforms for which it brings them [all].",
    ),
)
_CHOOSE = (
    click.option("--upstream", metavar="NAME", help="Fill it from this upstream registry."),
    click.option("--upstream-repository", metavar="PATH", help="The repository there."),
    click.option(
        "--upstream-url",
        metavar="REFERENCE",
        help="Both in one: docker.io/library/redis; the upstream is made if there is none.",
    ),
)
_ANONYMOUS = click.option(
    "--anonymous",
    is_flag=True,
    help="Make that upstream without a credential, although it limits such callers.",
)


def choosing(function: F) -> F:
    """The options of `create`."""
    return _with(function, *_CHOOSE, _ANONYMOUS, *_SET)


def setting(function: F) -> F:
    """The options of `set`; what is fixed is taken, so that it can be answered."""
    hidden = (
        click.option(name, name.strip("-").replace("-", "_"), hidden=True)
        for name in ("--upstream", "--upstream-repository", "--upstream-url")
    )
    ends = (
        click.option("--no-sync", is_flag=True, help="A sync brings no tags."),
        click.option("--no-warm", is_flag=True, help="A sync brings no blobs."),
    )
    return _with(function, *hidden, *_SET, *ends)


def new_upstream(options: Mapping[str, Any]) -> Json | None:
    """The `upstream` of a new repository, of what was typed; None for one that pushes fill."""
    named = _named(options)
    name, path, url = (options[key] for key in ("upstream", "upstream_repository", "upstream_url"))
    if url and (name or path):
        raise UsageError("--upstream-url is both: leave out --upstream and --upstream-repository")
    if url:
        return {"url": url, "is_anonymous": options["anonymous"], **named}
    if bool(name) != bool(path):
        raise UsageError(
            "an upstream and a repository of it go together; all of an upstream is a mirror",
            command("repository", "create", "PATH", "--upstream", "NAME")
            + " --upstream-repository library/redis",
            command("mirror", "add", "PREFIX", "--upstream", name or "NAME"),
        )
    if name:
        return {"name": name, "path": path, **named}
    if named or options["anonymous"]:
        raise UsageError("these options are about an upstream: say which with --upstream")
    return None


def upstream_changes(options: Mapping[str, Any]) -> Json:
    """The `upstream` of a change, of what was typed."""
    if any(options[key] for key in ("upstream", "upstream_repository", "upstream_url")):
        raise UsageError(
            "what a repository comes from is chosen when it is made, and stays; make a new one",
            command("repository", "create", "PATH", "--upstream", "NAME")
            + " --upstream-repository PATH",
        )
    if (options["no_sync"] and options["sync"]) or (options["no_warm"] and options["warm_tags"]):
        raise UsageError("--sync and --no-sync, --warm and --no-warm exclude each other")
    named = _named(options)
    if options["no_sync"]:
        named["sync"] = None
    if options["no_warm"]:
        named |= {"warm_tags": [], "warm_platforms": []}
    return named


def _named(options: Mapping[str, Any]) -> Json:
    named: Json = {}
    for field in _FIELDS:
        value = options[field]
        if value is not None and value != ():
            named[field] = list(value) if isinstance(value, tuple) else value
    if (freshness := options["freshness"]) is not None:
        named["freshness"] = None if freshness == "usual" else freshness
    return named


def _with(function: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        function = option(function)
    return function
