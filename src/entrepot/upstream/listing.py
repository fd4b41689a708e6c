"""Lists of an upstream, page by page: tags, and what refers to a manifest."""

import asyncio
import re
from collections.abc import AsyncGenerator

import msgspec
from yarl import URL

from entrepot.model.digests import Digest
from entrepot.model.errors import (
    TagInvalid,
    UpstreamBroken,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamRefused,
    UpstreamUnsafe,
)
from entrepot.model.media_types import OCI_INDEX
from entrepot.model.names import Tag
from entrepot.upstream.calls import OK, Calls
from entrepot.upstream.origins import Origin, follow
from entrepot.upstream.outbound import Answer

LIST_TAGS = "list"  # some registries want another right for it than for pulling
_PAGE = 1000
_MOST_PAGES = 1000
_LARGEST_PAGE = 32 << 20  # one registry adds all of its manifests to the list of tags
_MOST_ENTRIES = 100_000  # of a page; nobody keeps more names
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL = re.compile(r";\s*rel\s*=\s*\"?([^\";,]*)", re.IGNORECASE)
# Registries without the API, and how they say so.
_NO_REFERRERS = frozenset({400, 404, 405, 406, 415, 501})


class _Tags(msgspec.Struct):
    tags: list[object] | None = None


class _Index(msgspec.Struct):
    manifests: list[msgspec.Raw] | None = None


async def tags(calls: Calls, path: str) -> AsyncGenerator[list[str], None]:
    """Pages of tags in the upstream's order; what is no tag is left out."""
    at: URL | None = None
    for _ in range(_MOST_PAGES):
        rest = f"tags/list?n={_PAGE}"
        try:
            async with calls.ask("GET", path, rest, at=at, kind=LIST_TAGS) as answer:
                answer.require_identity()
                body = await answer.body(_LARGEST_PAGE)
                seen, at = at, _next(calls, answer)
        except UpstreamMissing:
            if at is None:
                raise
            # Not that there are no tags: half a list must not pass for all of it.
            message = f"{calls.called} names a page of tags that it does not have"
            raise UpstreamBroken(message, reason="tags") from None
        try:
            # Millions of names take seconds to read, and everybody else would wait for it.
            page = await asyncio.to_thread(_read_tags, body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            message = f"{calls.called} sent something else than a list of tags"
            raise UpstreamBroken(message, reason="tags") from None
        yield page
        if at is None or at == seen:
            return
    raise UpstreamBroken(f"{calls.called} lists tags without an end", reason="tags")


def _read_tags(body: bytes) -> list[str]:
    entries = (msgspec.json.decode(body, type=_Tags).tags or [])[:_MOST_ENTRIES]
    return [text for text in entries if isinstance(text, str) and _is_tag(text)]


async def referrers(calls: Calls, path: str, digest: Digest, *, limit: int) -> bytes | None:
    """An index of what refers to `digest`, by the API or else by the fallback tag; None for none.

    distribution-spec, "Referrers Tag Schema".
    """
    expected = OK | _NO_REFERRERS
    try:
        body = await _pages(calls, path, f"referrers/{digest}", expected, limit)
        if body is not None:
            return body
    except (UpstreamForbidden, UpstreamRefused, UpstreamMissing):
        pass  # some answer so where they mean that they have no such API
    tag = f"manifests/{digest.algorithm}-{digest.hex}"
    try:
        return await _pages(calls, path, tag, OK, limit)
    except UpstreamMissing:
        return None


async def _pages(
    calls: Calls, path: str, rest: str, expected: frozenset[int], limit: int
) -> bytes | None:
    """All pages of an index as one; None where there is none."""
    found = await _page(calls, path, rest, None, expected, limit)
    if found is None:
        return None
    body, manifests, at = found
    if at is None:
        return body
    size = len(body)
    for _ in range(_MOST_PAGES):
        seen = at
        try:
            found = await _page(calls, path, rest, at, OK, limit - size)
        except (UpstreamForbidden, UpstreamRefused, UpstreamMissing):
            found = None
        if found is None:
            # Half a list must not pass for all of it.
            message = f"{calls.called} names a page of referrers that it does not give"
            raise UpstreamBroken(message, reason="referrers")
        page, more, at = found
        manifests += more
        size += len(page)
        if at is None or at == seen:
            return _joined(body, manifests)
    raise UpstreamBroken(f"{calls.called} lists referrers without an end", reason="referrers")


async def _page(
    calls: Calls, path: str, rest: str, at: URL | None, expected: frozenset[int], limit: int
) -> tuple[bytes, list[msgspec.Raw], URL | None] | None:
    """A page of an index, what it lists, and where the next one is; None for what is no index."""
    headers = {"Accept": OCI_INDEX}
    async with calls.ask("GET", path, rest, at=at, headers=headers, expected=expected) as answer:
        if answer.status not in OK:
            return None
        answer.require_identity()
        if answer.media_type == "text/html" and rest.startswith("manifests/"):
            # Where there is no API any answer may come; this one stands before everything.
            message = f"{answer.called} sent a web page for a list of referrers"
            raise UpstreamBroken(message, reason="html")
        body = await answer.body(limit)
        following = _next(calls, answer)
    try:
        manifests = msgspec.json.decode(body, type=_Index).manifests
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return None if manifests is None else (body, manifests, following)


def _joined(first: bytes, manifests: list[msgspec.Raw]) -> bytes:
    whole = msgspec.json.decode(first, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(whole | {"manifests": msgspec.Raw(msgspec.json.encode(manifests))})


def _next(calls: Calls, answer: Answer) -> URL | None:
    """The next page's address, which is at this upstream whatever the link says of its scheme.

    Registries behind a proxy that ends TLS often link to http://. Raises UpstreamBroken for
    another host.
    """
    for line in answer.headers.getall("Link", ()):
        for address, parameters in _LINK.findall(line):
            rel = _REL.search(parameters)
            if rel is None or "next" in rel[1].lower().split():
                return _at_home(calls, answer.url, address)
    return None


def _at_home(calls: Calls, current: URL, address: str) -> URL:
    try:
        target = follow(current, address)
    except UpstreamUnsafe:
        target = None
    if target is None or Origin.of(target).host != calls.origin.host:
        message = f"{calls.called} continues a list on another host"
        raise UpstreamBroken(message, reason="link")
    return calls.origin.url(target.raw_path_qs)


def _is_tag(text: str) -> bool:
    try:
        Tag.parse(text)
    except TagInvalid:
        return False
    return True
