"""`entrepot usage`: what is held, and what that costs."""

import re
import sys
from decimal import Decimal

import click

from entrepot.cli.client import Client, Json, at
from entrepot.cli.messages import UsageError, command, printable, say
from entrepot.cli.options import organisation_option
from entrepot.cli.output import Cell, Column, as_json, show_json, show_list, size
from entrepot.cli.session import open_session
from entrepot.model.usage import readable

_PART = 1_000  # lines that one request asks for
_SHOWN = 20
_BAR = 20
_CENT = Decimal("0.01")


def _share(item: Json) -> Cell:
    """How much of all byte-seconds of all lines it is, as a bar."""
    share = Decimal(item["share"])
    bar = "#" * round(share * _BAR)
    return f"{bar:<{_BAR}} {share:>4.0%}", f"{share:.4f}"


def _price(item: Json) -> Cell:
    return _money(item["usage"]["price"]), item["usage"]["price"]


def _months(item: Json) -> Cell:
    months = item["usage"]["gb_months"]
    return f"{Decimal(months):.3f}", months


_COLUMNS: dict[str, Column] = {
    "NAME": "name",
    "HOLDS": size("usage.bytes"),
    "GB-MONTHS": _months,
    "SHARE": _share,
    "PRICE": _price,
}
_SPARE = ("SHARE", "GB-MONTHS")


@click.command(short_help="Show what is held, and what that costs.")
@organisation_option
@click.option("--month", help="Such as 2026-01 [this one, until now].")
@click.option(
    "--by",
    type=click.Choice(["repository", "project"]),
    default="repository",
    help="What the lines are of [repository].",
)
@click.option("--limit", type=click.IntRange(1), help=f"Lines at most [{_SHOWN} on a terminal].")
@click.option("--csv", "as_csv", is_flag=True, help="Print all lines as CSV.")
@as_json
def usage(
    organisation: str | None,
    month: str | None,
    by: str,
    limit: int | None,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show what an organisation holds, and what that costs; the largest first.

    A digest that several repositories share counts once for the organisation.
    """
    if month is not None and re.fullmatch(r"\d{4}-\d{2}", month) is None:
        raise UsageError("a month is written 2026-01")
    if as_csv and (as_json or limit):
        raise UsageError("--csv prints all lines and takes neither --json nor --limit")
    session = open_session()
    path = at("organisations", session.organisation(organisation), "usage")
    if as_csv:
        is_shown = sys.stdout.isatty()
        for text in session.client.text(path, month=month, by=by, format="csv"):
            # A terminal would obey what somebody put into a name; a file gets it as it is.
            sys.stdout.write(printable(text.replace("\r\n", "\n")) if is_shown else text)
        return
    found = _whole(session.client, path, month=month, by=by)
    if as_json:
        show_json(found)
        return
    lines = _lines(found)
    most = limit or (_SHOWN if sys.stdout.isatty() else len(lines))
    empty = ("nothing was held", command("usage", "--help"))
    show_list(lines[:most], _COLUMNS, as_json=False, empty=empty, spare=_SPARE)
    _say_sums(found, left_out=max(0, len(lines) - most))


def _whole(client: Client, path: str, **query: str | None) -> Json:
    """The answer with the lines of all its pages."""
    found = client.get(path, limit=_PART, **query)
    while found["next"] is not None:
        more = client.get(path, limit=_PART, cursor=found["next"], **query)
        found["items"] += more["items"]
        found["next"] = more["next"]
    return found


def _lines(found: Json) -> list[Json]:
    """The lines, the largest first, each with its share; what is listed nowhere is one more."""
    lines = list(found["items"])
    whole = found["repositories"]
    rest = {
        name: whole[name] - sum(line["usage"][name] for line in lines)
        for name in ("bytes", "byte_seconds")
    } | {
        name: str(Decimal(whole[name]) - sum(Decimal(line["usage"][name]) for line in lines))
        for name in ("gb_months", "price")
    }
    # Each line is rounded.
    if rest["bytes"] > 0 or rest["byte_seconds"] > len(lines):
        lines.append({"name": "(others, or deleted)", "usage": rest})
    for line in lines:
        share = Decimal(line["usage"]["byte_seconds"]) / (whole["byte_seconds"] or 1)
        line["share"] = str(max(Decimal(0), min(share, Decimal(1))))
    return sorted(lines, key=lambda line: (-line["usage"]["byte_seconds"], line["name"]))


def _say_sums(found: Json, *, left_out: int) -> None:
    total, shared, quota = found["usage"], found["shared"], found["quota"]
    if left_out:
        say(f"{left_out:,} more lines; --limit shows them, --csv prints all")
    if shared["bytes"]:
        say(f"shared between repositories, counted once: {readable(shared['bytes'])}")
    say(
        f"{found['organisation']['slug']} from {found['from'][:10]} to {found['to'][:16]}Z: holds "
        f"{readable(total['bytes'])}; {Decimal(total['gb_months']):.3f} GB-months at "
        f"{found['price_per_gb_month']}: {_money(total['price'])}"
    )
    limits = [
        f"{_count(what, limit['used'])} of {_count(what, limit['limit'])}"
        f"{'' if what == 'bytes' else f' {what}'} ({limit['percent']} %)"
        for what, limit in quota.items()
        if limit["limit"] is not None
    ]
    say(f"quota: {', '.join(limits)}" if limits else "quota: none")
    for warning in found["warnings"]:
        say(f"warning: {warning}")


def _count(what: str, count: int) -> str:
    return readable(count) if what == "bytes" else f"{count:,}"


def _money(price: str) -> str:
    """In hundredths; what is less than one is not nothing."""
    amount = Decimal(price)
    if 0 < amount < _CENT:
        return "< 0.01"
    return f"{amount:.2f}"
