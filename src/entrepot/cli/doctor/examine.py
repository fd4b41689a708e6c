"""All examinations, one after the other; what cannot be examined is a finding too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from entrepot.cli import preflight
from entrepot.cli.data_folder import opened, read_settings
from entrepot.cli.doctor import addresses, certificates, database, folders, keys, outbound, store
from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings
from entrepot.db.database import Database
from entrepot.model.clock import Clock, SystemClock
from entrepot.model.errors import EntrepotError, SettingsInvalid, StartRefused
from entrepot.parts import make_store
from entrepot.services.rotation import recorded_key

_SETTINGS = Part("settings")
_SECONDS = 60.0  # an object store that does not answer is asked again for half of that


async def examine(config: Path | None) -> AsyncIterator[Finding]:
    """Everything. Without settings that can be read there is nothing else to look at."""
    try:
        settings = read_settings(config)
    except SettingsInvalid as error:
        yield _SETTINGS.failed(error, "correct it; docs/reference/settings.md has all of them")
        return
    try:
        preflight.refuse_unsafe_files(settings)
    except SettingsInvalid as error:
        yield _SETTINGS.failed(error, "do that: no server starts before")
    else:
        yield _SETTINGS.ok(f"all understood{f', from {config}' if config else ''}")
    for finding in (
        *addresses.examine(settings),
        *certificates.examine(settings, datetime.now(UTC)),
        *folders.examine(settings),
    ):
        yield finding
    async for finding in outbound.examine(settings):
        yield finding
    if folders.is_closed(settings.data):
        return  # what would be said of database, key and store is not so
    async for finding in _stateful(settings):
        yield finding


async def _stateful(settings: Settings) -> AsyncIterator[Finding]:
    """Database, key and store, each as far as the ones before allow."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        known: Database | None = None
        recorded: str | None = None
        try:
            async with asyncio.timeout(_SECONDS):
                await database.require(settings)
                known = await stack.enter_async_context(opened(settings))
                recorded = await recorded_key(known)
                found = [each async for each in database.examine(settings, known, clock)]
        except EntrepotError as error:
            found = [database.PART.failed(error, "start the server, whose log says more")]
        except TimeoutError:
            found = [_silent(database.PART)]
        for finding in (*found, *keys.examine(settings, clock, recorded)):
            yield finding
        async for finding in _store(settings, known, clock):
            yield finding


async def _store(
    settings: Settings, known: Database | None, clock: Clock
) -> AsyncIterator[Finding]:
    try:
        bytes_ = make_store(settings)
    except StartRefused as error:
        yield store.PART.failed(error)
        return
    try:
        async with asyncio.timeout(_SECONDS):
            found = [each async for each in store.examine(settings, bytes_, clock)]
            if known is not None:
                found += await store.belonging(known, bytes_)
                found.append(await store.collection(known, bytes_))
    except TimeoutError:
        found = [_silent(store.PART)]
    finally:
        bytes_.close()
    for finding in found:
        yield finding


def _silent(part: Part) -> Finding:
    return part.error(
        f"no answer within {_SECONDS:.0f} s", "look at the network between, and at its load"
    )
