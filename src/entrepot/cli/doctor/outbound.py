"""The way to other registries: a proxy, and authorities of one's own."""

import asyncio
import os
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings
from entrepot.model.errors import SettingsInvalid
from entrepot.parts import make_outbound

_PART = Part("outbound")
_SECONDS = 3.0
_HTTP = 80


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the CA file can be read, and the proxy be reached."""
    outbound = settings.outbound
    try:
        make_outbound(settings, "entrepot")
    except SettingsInvalid as error:
        yield _PART.failed(
            error, "write certificates there, as PEM, or unset ENTREPOT_OUTBOUND__CA_FILE"
        )
    else:
        if outbound.ca_file is not None:
            yield _PART.ok(f"trusts the certificates in {outbound.ca_file} too")
    if outbound.proxy:
        yield await _proxy(outbound.proxy)


async def _proxy(url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _HTTP
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:  # a time-out too, which has no words
        number = error.errno or 0  # below 0 where the name has no address
        why = os.strerror(number) if number > 0 else error.strerror or "no answer"
        return _PART.error(
            f"the proxy {host}:{port} cannot be reached ({why})",
            "start it, or correct ENTREPOT_OUTBOUND__PROXY",
        )
    writer.close()
    return _PART.ok(f"calls go through the proxy {host}:{port}")
