"""Whether this is the store that the database speaks of: it has an id, which the database knows.

Without that a node with other settings than the others, or a registry whose bytes are looked for in
a new place, would start, miss every blob, and note all of them as lost; and a database that is not
this store's would take all that lies there for what nobody needs any more.
"""

import asyncio
import secrets

from entrepot.blobs.store import BlobStore
from entrepot.db import installation, scrub
from entrepot.db.database import Database
from entrepot.model.errors import ObjectMissing, StartRefused
from entrepot.model.stored import LinkedBlob
from entrepot.services.objects import require_there

STORE = "store"  # a name in the table `installation`
_LOOKED_AT = 20  # blobs, where the database knows no id yet
_REMEDY = "set ENTREPOT_BLOBS__URL to where they are, the same on every node, or mount it"


async def require_store(database: Database, store: BlobStore) -> None:
    """Check that the store is this database's; the first to ask makes it so.

    Raises StartRefused with what to do, StorageFull, StorageFailed, Unavailable.
    """
    if await _recorded(database) is None:
        await refuse_other_store(database, store)
        await _record(database, store)
    await refuse_other_store(database, store)


async def refuse_other_store(database: Database, store: BlobStore) -> None:
    """Raises StartRefused, with what to do, where database and store are not each other's.

    StorageFailed, Unavailable.
    """
    recorded = await _recorded(database)
    if recorded is None and await _is_of_another(database, store):
        # A node that began with us may have been sent some by now.
        recorded = await _recorded(database)
        if recorded is None:
            raise StartRefused(
                "this store has objects of another registry, or of a database that was lost:"
                " correct ENTREPOT_DATABASE__URL, or restore that database, or set"
                " ENTREPOT_BLOBS__URL to an empty place"
            )
    found = await asyncio.to_thread(store.ids)
    if recorded is not None and recorded not in found:
        raise StartRefused(
            "this store is not the one that the registry's blobs are in: that one has the id"
            f" {recorded}, this one {', '.join(found) or 'none'}; {_REMEDY}. If it was moved on"
            " purpose, docs/object-stores.md says how the store gets the id"
        )


async def _recorded(database: Database) -> str | None:
    async with database.read() as tx:
        return await installation.find(tx, STORE)


async def _is_of_another(database: Database, store: BlobStore) -> bool:
    """Whether objects lie there and the database has no blob at all."""
    async with database.read() as tx:
        is_empty = not await scrub.page(tx, after="", limit=1)
    return is_empty and await asyncio.to_thread(_has_objects, store)


def _has_objects(store: BlobStore) -> bool:
    return any(stored.is_object for page in store.listed() for stored in page)


async def _record(database: Database, store: BlobStore) -> None:
    """Give the store an id, if it has none, and have the database know it.

    The store first: of nodes that begin at once on stores of their own, one finds the id of its own
    recorded, and the others are refused. Where they share one it gets the ids of all.
    """
    async with database.read() as tx:
        blobs = await scrub.page(tx, after="", limit=_LOOKED_AT)
    known = [blob for blob in blobs if not blob.is_damaged]
    if known and not await _has_any(database, store, known):
        raise StartRefused(f"this store has none of the registry's blobs; {_REMEDY}")
    found = await asyncio.to_thread(store.ids)
    if not found:
        await asyncio.to_thread(store.add_id, secrets.token_hex(8))
        found = await asyncio.to_thread(store.ids)
    await database.write(lambda tx: installation.keep(tx, STORE, found[0]))


async def _has_any(database: Database, store: BlobStore, blobs: list[LinkedBlob]) -> bool:
    """Whether one of some blobs is there: others may have been lost."""
    for blob in blobs:
        try:
            await require_there(database, store, blob)
        except ObjectMissing:
            continue
        return True
    return False
