"""Which upstream a name would come from where no repository is, and what `?ns=` asks for.

containerd sends `?ns=HOST` to a mirror: the registry that the image's reference names. It is a key
into the mirrors of the organisation, never an address to call.
"""

import re
from dataclasses import replace

from entrepot.db import namespaces
from entrepot.db.database import Transaction
from entrepot.model.access import Place, Repository, is_match
from entrepot.model.names import NAME_LIMIT
from entrepot.model.upstreams import PRESETS, NamespaceMirror, Source

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")


async def find(tx: Transaction, place: Place) -> Place:
    """Where a repository at `place` would come from: by the longest prefix that lets it through."""
    for mirror in await _above(tx, place):
        if (source := source_below(mirror, place.path)) is not None:
            return replace(place, source=source, is_public=mirror.is_open)
    return place


async def lead(tx: Transaction, start: Place, ns: str) -> Place | None:
    """The place of a path that was asked for in the name of the registry `ns`.

    None where no mirror of the organisation stands for that registry.
    """
    if not is_host(ns):
        return None
    mirrors = await _of_host(tx, start.organisation_id, ns)
    if any(_is_below(mirror, start.path) for mirror in mirrors if mirror.prefix):
        return start  # the client was given the prefix as well
    for mirror in mirrors:
        path = _path_of(mirror, start.path)
        if path is not None and source_below(mirror, path) is not None:
            return replace(start, path=path, project_id=None)
    return None


async def may_answer(tx: Transaction, where: Repository | Place, ns: str) -> bool:
    """Whether what is at `where` may be given to somebody who asked for it in the name of `ns`.

    Not what another registry has by the same name, unless the path itself says which is meant.
    """
    if where.source is None:
        return True
    upstream_id = where.source.upstream_id
    place = Place(where.organisation_id, where.path)
    near = await _above(tx, place)
    if any(mirror.prefix and mirror.upstream_id == upstream_id for mirror in near):
        return True
    known = await _of_host(tx, where.organisation_id, ns) if is_host(ns) else []
    return any(mirror.upstream_id == upstream_id for mirror in known)


def source_below(mirror: NamespaceMirror, path: str) -> Source | None:
    """Where the repository at `path` comes from by this mirror, if it lets it through."""
    if not _is_below(mirror, path):
        return None
    rest = path[len(mirror.prefix) :].lstrip("/")
    remote = f"{mirror.upstream_prefix}/{rest}" if mirror.upstream_prefix else rest
    remote = full_path(mirror.preset, remote)
    is_allowed = not mirror.allow or any(is_match(pattern, remote) for pattern in mirror.allow)
    is_denied = any(is_match(pattern, remote) for pattern in mirror.deny)
    if not is_allowed or is_denied:
        return None
    return Source(mirror.upstream_id, remote, mirror.freshness)


def full_path(preset: str, path: str) -> str:
    """A path as the upstream knows it: Docker Hub's own images are below `library`."""
    known = PRESETS.get(preset)
    if known is not None and known.library and "/" not in path:
        return f"{known.library}/{path}"
    return path


def is_host(text: str) -> bool:
    """Whether this can be a registry's host, with a port or without."""
    return _HOST.fullmatch(text) is not None


async def _above(tx: Transaction, place: Place) -> list[NamespaceMirror]:
    """Every mirror that `place` is below, the nearest first."""
    parts = place.path.split("/")
    prefixes = ["/".join(parts[:count]) for count in range(len(parts))]
    return await namespaces.above(tx, place.organisation_id, prefixes)


async def _of_host(tx: Transaction, organisation_id: int, ns: str) -> list[NamespaceMirror]:
    """The mirrors of the registry that image references call `ns`, the shortest prefix first."""
    presets = [preset for preset in PRESETS.values() if ns in preset.aliases]
    hosts = {ns}.union(*(preset.aliases for preset in presets))
    return await namespaces.of_host(
        tx,
        organisation_id,
        presets=[preset.name for preset in presets if not preset.has_copies],
        origins=sorted(f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")),
    )


def _is_below(mirror: NamespaceMirror, path: str) -> bool:
    return not mirror.prefix or path.startswith(f"{mirror.prefix}/")


def _path_of(mirror: NamespaceMirror, remote: str) -> str | None:
    """Our path of what the upstream calls `remote`; None for what the mirror does not hold."""
    rest = remote
    if mirror.upstream_prefix:
        rest = remote.removeprefix(f"{mirror.upstream_prefix}/")
        if rest == remote:
            return None
    path = f"{mirror.prefix}/{rest}" if mirror.prefix else rest
    return path if len(path) <= NAME_LIMIT else None
