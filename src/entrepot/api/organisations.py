"""Organisations."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from entrepot.api.call import (
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    Version,
    declares,
    moment,
    page_of,
    tag,
)
from entrepot.api.retention import Retention, read_retention, shown_retention
from entrepot.model import tenancy
from entrepot.model.access import Action, Role

router = APIRouter(tags=["organisations"])
_MICROS = 1_000_000
_MOST = 2**62

Slug = Annotated[str, Field(description="its name in addresses: a DNS label", max_length=63)]
Price = Annotated[str, Field(pattern=r"^\d{1,9}(\.\d{1,6})?$", description="per GB-month: `0.20`")]


class Quota(Body):
    """The most that an organisation may hold; null is no limit."""

    bytes: Annotated[int | None, Field(ge=0, le=_MOST)] = None
    repositories: Annotated[int | None, Field(ge=0, le=_MOST)] = None
    tags: Annotated[int | None, Field(ge=0, le=_MOST)] = None


class Organisation(Shown):
    """An organisation and its settings."""

    id: str
    slug: str
    name: str
    created_at: datetime
    repository_creation: Literal["member", "admin"] = Field(
        description="the lowest role whose first push makes a repository"
    )
    allows_public: bool = Field(description="whether its repositories may be public")
    is_read_only: bool
    retention: Retention | None = Field(description="null: as the server has it")
    effective_retention: Retention = Field(
        description="what holds for its repositories that have no policy of their own"
    )
    inherited_retention: Retention = Field(description="the server's, which holds without it")
    price_per_gb_month: str
    quota: Quota


class NewOrganisation(Body):
    """An organisation to make."""

    slug: Slug
    name: Annotated[str, Field(max_length=200)] = ""
    id: Annotated[str | None, Field(description="given by you, for migrations")] = None


class OrganisationChanges(Body):
    """What to change; what is not named stays."""

    name: Annotated[str, Field(max_length=200)] = ""
    repository_creation: Literal["member", "admin"] = "member"
    allows_public: bool = True
    is_read_only: bool = False
    retention: Retention | None = None
    price_per_gb_month: Price = "0.20"
    quota: Annotated[Quota, Field(description="a limit that is not named stays")] = Quota()


class Reason(Body):
    """Why; it is kept in the audit log."""

    reason: Annotated[str, Field(min_length=3, max_length=500)]


class BrokenGlass(Shown):
    """A membership that ends by itself."""

    role: Literal["owner"]
    expires_at: datetime


@router.get("/organisations", **declares(Action.LOGIN))
async def list_organisations(
    services: Services, caller: Caller, window: Paging
) -> Page[Organisation]:
    """The organisations that you may see, by slug; all of them for server administrators."""
    found = await services.organisations.page(caller, after=window.after, limit=window.limit)
    return page_of(
        found, lambda each: _shown(services, each), lambda organisation: organisation.slug
    )


@router.post("/organisations", **declares(Action.ADMINISTER, creates=True))
async def create_organisation(
    services: Services, caller: Caller, new: NewOrganisation, response: Response
) -> Organisation:
    """Make an organisation, which you own. For server administrators."""
    made = await services.organisations.create(caller, new.slug, name=new.name, public_id=new.id)
    tag(response, made.version)
    return _shown(services, made)


@router.get("/organisations/{organisation}", **declares(Action.SEE_ORGANISATION))
async def show_organisation(
    services: Services, caller: Caller, organisation: str, response: Response
) -> Organisation:
    """One organisation, by slug or id."""
    found = await services.organisations.get(caller, organisation)
    tag(response, found.version)
    return _shown(services, found)


@router.patch("/organisations/{organisation}", **declares(Action.MANAGE_ORGANISATION))
async def change_organisation(
    services: Services,
    caller: Caller,
    organisation: str,
    changes: OrganisationChanges,
    version: Version,
    response: Response,
) -> Organisation:
    """Change settings. Price and quota take an owner, everything else an administrator."""
    values: dict[str, object] = {}
    for field in changes.model_fields_set:
        match field:
            case "repository_creation":
                values["creators"] = Role(changes.repository_creation)
            case "retention":
                wanted = changes.retention
                values["retention"] = read_retention(wanted) if wanted else None
            case "price_per_gb_month":
                values["price_micros"] = int(Decimal(changes.price_per_gb_month) * _MICROS)
            case "quota":
                limits = changes.quota
                values["quota"] = {name: getattr(limits, name) for name in limits.model_fields_set}
            case _:
                values[field] = getattr(changes, field)
    changed = await services.organisations.update(caller, organisation, values, version=version)
    tag(response, changed.version)
    return _shown(services, changed)


@router.delete(
    "/organisations/{organisation}", status_code=204, **declares(Action.OWN_ORGANISATION)
)
async def delete_organisation(
    services: Services, caller: Caller, organisation: str, version: Version
) -> None:
    """Delete an organisation with all that is in it. Its slug and id are never given again."""
    await services.organisations.delete(caller, organisation, version=version)


@router.post("/organisations/{organisation}/break-glass", **declares(Action.ADMINISTER))
async def break_glass(
    services: Services, caller: Caller, organisation: str, why: Reason
) -> BrokenGlass:
    """Become an owner for an hour, for server administrators; the organisation's log says so."""
    until = await services.organisations.break_glass(caller, organisation, reason=why.reason)
    return BrokenGlass(role="owner", expires_at=moment(until))


def _shown(services: Services, organisation: tenancy.Organisation) -> Organisation:
    kept = organisation.retention
    return Organisation(
        id=organisation.public_id,
        slug=organisation.slug,
        name=organisation.name,
        created_at=moment(organisation.created_at),
        repository_creation="admin" if organisation.creators is Role.ADMIN else "member",
        allows_public=organisation.allows_public,
        is_read_only=organisation.is_read_only,
        retention=shown_retention(kept) if kept else None,
        effective_retention=shown_retention(kept or services.retention.server),
        inherited_retention=shown_retention(services.retention.server),
        price_per_gb_month=f"{Decimal(organisation.price_micros) / _MICROS:.2f}",
        quota=Quota(
            bytes=organisation.quota.bytes,
            repositories=organisation.quota.repositories,
            tags=organisation.quota.tags,
        ),
    )
