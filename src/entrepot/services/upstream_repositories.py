"""Making repositories that come from an upstream, which is asked first whether we may read it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from entrepot.db import upstreams
from entrepot.db.database import Database
from entrepot.model.access import Actor
from entrepot.model.errors import (
    FieldInvalid,
    NameInvalid,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamRefused,
)
from entrepot.model.names import RepositoryName
from entrepot.model.tenancy import Organisation, RepositoryFacts
from entrepot.model.upstreams import PRESETS, Preset, Upstream
from entrepot.services.access import Access
from entrepot.services.namespaces import full_path
from entrepot.services.pull_through import UpstreamPath, may_manage, no_upstream, require_usable
from entrepot.services.remotes import Remotes
from entrepot.services.repositories import Repositories
from entrepot.services.upstream_forms import NewUpstream, origin_of, preset_of
from entrepot.services.upstreams import UPSTREAMS, Upstreams

_NO_NAME = re.compile(r"[^a-z0-9.]+")
_REFERENCE_END = re.compile(r"@.*$|:[^:/]*$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new repository shall come from: a path of the upstream `name`, or a full reference.

    `is_anonymous`: if the upstream of the reference has to be made, its limits for callers without
    a credential are accepted.
    """

    name: str = ""
    path: str = ""
    url: str = ""
    is_anonymous: bool = False


class UpstreamRepositories:
    """Makes pull-through repositories. Upstreams are asked outside of transactions."""

    def __init__(
        self,
        database: Database,
        access: Access,
        repositories: Repositories,
        upstreams_: Upstreams,
        remotes: Remotes,
    ) -> None:
        self._database = database
        self._access = access
        self._repositories = repositories
        self._upstreams = upstreams_
        self._remotes = remotes

    async def create(
        self,
        actor: Actor,
        organisation: str,
        path: str,
        policies: Mapping[str, object],
        wanted: Wanted,
    ) -> RepositoryFacts:
        """Make a repository of what is wanted, if it can be read there.

        Raises FieldInvalid, UpstreamError, and what `Repositories.create` does.
        """
        known, entered = await self._repositories.require_creatable(
            actor, organisation, path, policies
        )
        chosen = await self._chosen(known, entered, wanted)
        require_usable(self._access, known, entered, chosen)
        await self._require_readable(chosen)
        return await self._repositories.create(actor, organisation, path, policies, chosen=chosen)

    async def _require_readable(self, chosen: UpstreamPath) -> None:
        """Raises FieldInvalid, UpstreamError where nobody can tell now.

        Some upstreams let a credential pull what they do not let it list.
        """
        upstream, path = chosen.upstream, chosen.path
        try:
            async with self._remotes.calling(upstream.id) as remote:
                try:
                    await anext(aiter(remote.tags(path)), None)
                except (UpstreamForbidden, UpstreamRefused):
                    with suppress(UpstreamMissing):
                        await remote.head_manifest(path, "latest")
        except (UpstreamMissing, UpstreamForbidden) as error:
            message = (
                f"{upstream.name} has no {path}, or none that its credential may read: "
                f"{error.message}"
            )
            raise FieldInvalid(message, field="upstream.path") from error

    async def _chosen(
        self, actor: Actor, organisation: Organisation, wanted: Wanted
    ) -> UpstreamPath:
        """The upstream and the path that are meant. Raises as `create` does."""
        if bool(wanted.url) == bool(wanted.name):
            message = "name an upstream and a path of it, or a full reference, not both"
            raise FieldInvalid(message, field="upstream")
        if wanted.url:
            return await self._of_reference(actor, organisation, wanted)
        if not wanted.path:
            message = "which repository of the upstream? a whole one takes a namespace mirror"
            raise FieldInvalid(message, field="upstream.path")
        async with self._database.read() as tx:
            upstream = await upstreams.find(tx, organisation.id, wanted.name)
        if upstream is None:
            raise FieldInvalid(no_upstream(wanted.name), field="upstream.name")
        return UpstreamPath(
            upstream, _path(wanted.path, PRESETS[upstream.preset], field="upstream.path")
        )

    async def _of_reference(
        self, actor: Actor, organisation: Organisation, wanted: Wanted
    ) -> UpstreamPath:
        """The upstream of a full reference: the one of the organisation, or one made now."""
        address, path = _read_reference(wanted.url)
        host = address.partition("://")[2]
        new = NewUpstream("", url=address, is_anonymous=wanted.is_anonymous)
        preset = preset_of(new)
        address = origin_of(preset, new)
        path = _path(path, preset, field="upstream.url")
        manages = may_manage(self._access, actor, organisation)
        async with self._database.read(scan=True) as tx:
            found = await upstreams.page(
                tx, organisation.id, for_members=not manages, after="", limit=UPSTREAMS
            )
        same = [upstream for upstream in found if _is_at(upstream, preset, host, address)]
        if len(same) > 1:
            names = ", ".join(upstream.name for upstream in same)
            message = f"several upstreams are {host}; say which and the path of it: {names}"
            raise FieldInvalid(message, field="upstream.url")
        if same:
            upstream = same[0]
        elif not manages:
            raise FieldInvalid(no_upstream(host), field="upstream.url")
        else:
            name = preset.name if preset.aliases else _NO_NAME.sub("-", host).strip("-")[:63]
            made = await self._upstreams.create(
                actor, organisation.public_id, replace(new, name=name)
            )
            upstream = made.upstream
        return UpstreamPath(upstream, path)


def _is_at(upstream: Upstream, preset: Preset, host: str, address: str) -> bool:
    """Whether an upstream is the registry of this host, wherever it really is."""
    is_named = preset.is_named(host, upstream.origin) and upstream.preset == preset.name
    return is_named or upstream.origin == address


def _read_reference(url: str) -> tuple[str, str]:
    """Address and path of a full reference such as docker.io/library/redis.

    A reference without a host is one of Docker Hub, as docker reads it. Raises FieldInvalid.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "https", url
    host, slash, path = rest.partition("/")
    names_host = bool(found) or "." in host or ":" in host or host == "localhost"
    if names_host and not path.strip("/"):
        message = f"{host} is a whole registry; name a repository of it, or use a namespace mirror"
        raise FieldInvalid(message + ": entrepot mirror add", field="upstream.url")
    if not names_host:
        host, path = "docker.io", f"{host}{slash}{path}"
    path = path.strip("/")
    return f"{scheme}://{host.lower()}", path


def _path(path: str, preset: Preset, *, field: str) -> str:
    """A path as the upstream knows it. Raises FieldInvalid."""
    if _REFERENCE_END.search(path):
        raise FieldInvalid("leave the tag or digest out: a repository has all", field=field)
    first, _, rest = path.strip("/").partition("/")
    if first in preset.aliases and rest:
        path = rest
    try:
        name = RepositoryName.parse(path.strip("/"))
    except NameInvalid as error:
        raise FieldInvalid(error.message, field=field) from error
    return full_path(preset.name, name.text)
