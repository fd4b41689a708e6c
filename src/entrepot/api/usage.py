"""What organisations and projects held, and what that costs: as JSON, and as CSV."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from entrepot.api.call import Caller, Page, Paging, Services, Shown, declares, moment, page_of
from entrepot.api.repositories import OwnerShown
from entrepot.model import usage
from entrepot.model.access import Action
from entrepot.model.errors import FieldInvalid
from entrepot.model.ids import to_text
from entrepot.model.usage import Period
from entrepot.services.usage import By, OrganisationUsage

router = APIRouter(tags=["usage"])

_MICROS = 1_000_000
_PART = 1_000  # lines of a CSV that are read at once
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Measured(Shown):
    """What was held. A GB is 10^9 bytes, a month 730 hours."""

    bytes: int = Field(description="at the end of the period")
    byte_seconds: int = Field(description="in the period")
    gb_months: str
    price: str = Field(description="at the organisation's price per GB-month")


class Line(Shown):
    """A repository or project."""

    id: str
    name: str = Field(description="a repository's path, a project's name")
    project: str | None = Field(description="the id of the project that it belongs to, if any")
    usage: Measured


class Limit(Shown):
    """How much of a quota is used."""

    used: int
    limit: int | None = Field(description="null: no limit")
    percent: int | None


class Limits(Shown):
    """What the organisation holds now, and may."""

    bytes: Limit
    repositories: Limit
    tags: Limit


class Usage(Page[Line]):
    """An organisation, and a part of its repositories or projects."""

    organisation: OwnerShown
    begin: datetime = Field(validation_alias="from", serialization_alias="from")
    end: datetime = Field(
        validation_alias="to",
        serialization_alias="to",
        description="now, while the period goes on",
    )
    price_per_gb_month: str
    usage: Measured = Field(description="a digest that several repositories share counts once")
    repositories: Measured = Field(
        description="all repositories together, those that were deleted since included"
    )
    shared: Measured = Field(description="the difference of the two")
    quota: Limits
    warnings: list[str] = Field(description="limits of which 80 % or more are used")


class ProjectUsage(Shown):
    """What a project's builds held."""

    id: str
    name: str
    organisation: OwnerShown
    begin: datetime = Field(validation_alias="from", serialization_alias="from")
    end: datetime = Field(
        validation_alias="to",
        serialization_alias="to",
        description="now, while the period goes on",
    )
    price_per_gb_month: str
    usage: Measured


def _period(
    month: Annotated[str | None, Query(description="`2026-01`; default: this one")] = None,
    first: Annotated[date | None, Query(alias="from", description="the first day, UTC")] = None,
    last: Annotated[date | None, Query(alias="to", description="the last day, UTC")] = None,
) -> Period | None:
    if first is None and last is None:
        return Period.of_month(month) if month is not None else None
    if month is not None or first is None or last is None:
        raise FieldInvalid("a period is a month, or from and to", field="from")
    return Period.of_days(first, last)


Asked = Annotated[Period | None, Depends(_period)]


@router.get(
    "/organisations/{organisation}/usage",
    response_model=Usage,
    responses={200: {"content": {"text/csv": {}}}},
    **declares(Action.SEE_USAGE),
)
async def show_usage(
    services: Services,
    caller: Caller,
    organisation: str,
    period: Asked,
    window: Paging,
    by: Annotated[By, Query(description="lines for repositories, or for projects")] = "repository",
    form: Annotated[
        Literal["json", "csv"],
        Query(alias="format", description="csv has every line, and is not paged"),
    ] = "json",
) -> Usage | StreamingResponse:
    """What an organisation held, in whole UTC days, and what that costs.

    Repositories come by path, projects by id; a server administrator gets the sums alone.
    """
    found = await services.usage.of_organisation(caller, organisation, period)
    if form == "csv":
        name = f"usage-{found.organisation.slug}-{found.period.first}-{found.period.last}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(_csv(services, found, by), media_type="text/csv", headers=headers)
    lines = await services.usage.page(found, by, after=window.after, limit=window.limit)
    price = found.organisation.price_micros
    page = page_of(lines, lambda line: _line(line, by, price), lambda line: _key(line, by))
    return Usage(
        items=page.items,
        next=page.next,
        organisation=OwnerShown(id=found.organisation.public_id, slug=found.organisation.slug),
        begin=moment(found.period.start),
        end=moment(found.period.end),
        price_per_gb_month=_price(price),
        usage=_measured(found.measured, price),
        repositories=_measured(found.repositories, price),
        shared=_measured(found.shared, price),
        quota=_limits(found),
        warnings=usage.warnings(found.held, found.organisation.quota),
    )


@router.get("/projects/{project}/usage", **declares(Action.SEE_USAGE))
async def show_project_usage(
    services: Services, caller: Caller, project: str, period: Asked
) -> ProjectUsage:
    """What the builds of a project held; repositories that it is linked to are not among them."""
    found = await services.usage.of_project(caller, project, period)
    price = found.organisation.price_micros
    return ProjectUsage(
        id=found.project.public_id,
        name=found.project.name,
        organisation=OwnerShown(id=found.organisation.public_id, slug=found.organisation.slug),
        begin=moment(found.period.start),
        end=moment(found.period.end),
        price_per_gb_month=_price(price),
        usage=_measured(found.measured, price),
    )


async def _csv(services: Services, found: OrganisationUsage, by: By) -> AsyncIterator[str]:
    """Every line, and at the end the sums that they lead to."""
    yield _row("kind", "id", "name", "project", "bytes", "byte_seconds", "gb_months", "price")
    price = found.organisation.price_micros
    after, has_more = "", True
    while has_more:
        lines, has_more = await services.usage.page(found, by, after=after, limit=_PART)
        for line in lines:
            after = _key(line, by)
            named = _line(line, by, price)
            yield _row(by, named.id, _text(named.name), named.project, *_cells(named.usage))
    owner = (found.organisation.public_id, found.organisation.slug, None)
    for kind, measured in (
        ("repositories", found.repositories),
        ("shared", found.shared),
        ("organisation", found.measured),
    ):
        yield _row(kind, *owner, *_cells(_measured(measured, price)))


def _row(*cells: object) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _cells(measured: Measured) -> tuple[object, ...]:
    return measured.bytes, measured.byte_seconds, measured.gb_months, measured.price


def _text(name: str) -> str:
    """What people named, for a spreadsheet, which would compute what looks like a formula."""
    return f"'{name}" if name.lstrip().startswith(_FORMULA) or name.startswith(_FORMULA) else name


def _line(line: usage.UsageLine, by: By, price: int) -> Line:
    is_project = by == "project"
    return Line(
        id=_key(line, by) if is_project else to_text(line.id),
        name=line.name,
        project=None if is_project else line.project,
        usage=_measured(line.measured, price),
    )


def _key(line: usage.UsageLine, by: By) -> str:
    """What a page of lines is asked for by."""
    return line.project or "" if by == "project" else line.name


def _measured(measured: usage.Measured, price: int) -> Measured:
    return Measured(
        bytes=measured.bytes,
        byte_seconds=round(measured.byte_seconds),
        gb_months=f"{measured.gb_months:f}",
        price=f"{measured.price(price):f}",
    )


def _limits(found: OrganisationUsage) -> Limits:
    known = {share.what: share for share in usage.shares(found.held, found.organisation.quota)}

    def limit(what: str, used: int) -> Limit:
        share = known.get(what)
        return Limit(
            used=used,
            limit=share.limit if share else None,
            percent=share.percent if share else None,
        )

    held = found.held
    return Limits(
        bytes=limit("bytes", held.bytes),
        repositories=limit("repositories", held.repositories),
        tags=limit("tags", held.tags),
    )


def _price(micros: int) -> str:
    return f"{Decimal(micros) / _MICROS:.2f}"
