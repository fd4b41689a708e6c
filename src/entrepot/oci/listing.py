"""Lists: tags (end-8), referrers (end-12), the catalog, and the ping (end-1)."""

import json
from collections.abc import Iterable

import msgspec

from entrepot.model.access import Action, Place, Repository
from entrepot.model.digests import Digest
from entrepot.model.media_types import OCI_INDEX
from entrepot.model.stored import Referrer, ReferrerPage, TagPage
from entrepot.oci.call import Call, Registry
from entrepot.oci.content import API_VERSION, GUARDS
from entrepot.oci.reads import appear, choose, warn
from entrepot.services.token_service import CATALOG_SCOPE
from entrepot.web.answers import Answer, Header
from entrepot.web.paging import link_next, read_limit

_JSON: Header = (b"content-type", b"application/json")
_INDEX: Header = (b"content-type", OCI_INDEX.encode())
# containerd reads about 4 MiB of referrers and follows no link.
_REFERRERS_BYTES = 4_000_000

_encode = msgspec.json.Encoder().encode


async def ping(registry: Registry, call: Call) -> Answer:  # noqa: ARG001  # every handler's form
    """The registry is here, and the credential is good."""
    return Answer(200, [_JSON, API_VERSION], b"{}")


async def tags(registry: Registry, call: Call) -> Answer:
    """Tags in byte order."""
    limits = registry.limits
    limit = read_limit(call.request, most=limits.page, default=limits.tag_page)
    after = call.request.field("last") or ""
    page = TagPage([], has_more=False)
    await appear(registry, call, None)
    reads, repository = choose(registry, call)
    if limit:
        page = await reads.tags(repository, after=after, limit=limit)
    names = page.names
    headers = [_JSON, *GUARDS]
    warn(headers, page.warning)
    if page.has_more:
        headers.append(
            link_next(
                f"/v2/{call.name}/tags/list", n=limit, last=names[-1], ns=call.target.ns or None
            )
        )
    return Answer(200, headers, _encode({"name": str(call.name), "tags": names}))


async def referrers(registry: Registry, call: Call) -> Answer:
    """An index of what refers to a digest; empty where nothing does, or nothing is."""
    subject = Digest.parse(call.values["digest"])
    types = call.request.query.get("artifactType", [])
    # Several types are answered unfiltered and without the header that claims otherwise.
    artifact_type = types[0] if len(types) == 1 else None
    limit = read_limit(call.request, most=registry.limits.page, default=registry.limits.page)
    page = ReferrerPage([], has_more=False)
    if limit and not isinstance(call.where, Place):
        reads, repository = choose(registry, call)
        page = await reads.referrers(
            repository,
            subject,
            artifact_type=artifact_type,
            after=call.request.field("last") or "",
            limit=limit,
        )
    found = page.found
    listed = _within(found, _REFERRERS_BYTES)
    headers: list[Header] = [_INDEX, *GUARDS]
    warn(headers, page.warning)
    if artifact_type is not None:
        headers.append((b"oci-filters-applied", b"artifactType"))
    if page.has_more or len(listed) < len(found):
        path = f"/v2/{call.name}/referrers/{subject}"
        last = found[len(listed) - 1].digest
        ns = call.target.ns or None
        headers.append(link_next(path, artifactType=artifact_type, n=limit, last=last, ns=ns))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return Answer(200, headers, _encode(index))


async def catalog(registry: Registry, call: Call) -> Answer:
    """Repositories of the host's organisation that the caller may pull."""
    limit = read_limit(call.request, most=registry.limits.page, default=registry.limits.page)
    granted = call.actor.granted
    credential, access = call.actor.credential, registry.access
    organisation_id = await registry.addresses.organisation_of(call.label)
    found: list[Repository] = []
    has_more = False
    if (
        limit
        and organisation_id is not None
        and (granted is None or CATALOG_SCOPE in granted)
        and access.may_list(credential, organisation_id)
    ):
        found, has_more = await registry.pull.repositories(
            organisation_id,
            after=call.request.field("last") or "",
            limit=limit,
            is_visible=lambda repository: Action.PULL in access.allowed(credential, repository),
        )
    names = [repository.path for repository in found]
    headers = [_JSON, *GUARDS]
    if has_more:
        headers.append(link_next("/v2/_catalog", n=limit, last=names[-1]))
    return Answer(200, headers, _encode({"repositories": names}))


def _within(found: Iterable[Referrer], budget: int) -> list[dict[str, object]]:
    """Descriptors of as many referrers as fit, at least one."""
    listed: list[dict[str, object]] = []
    for referrer in found:
        descriptor: dict[str, object] = {
            "mediaType": referrer.media_type,
            "digest": referrer.digest,
            "size": referrer.size,
        }
        if referrer.artifact_type is not None:
            descriptor["artifactType"] = referrer.artifact_type
        if referrer.annotations is not None:
            descriptor["annotations"] = json.loads(referrer.annotations)
        budget -= len(_encode(descriptor)) + 1
        if budget < 0 and listed:
            break
        listed.append(descriptor)
    return listed
