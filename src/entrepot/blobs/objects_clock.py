"""The clock of an object store, by what it says of an object that is written now."""

import secrets

import obstore

from entrepot.blobs.objects_check import FOLDER
from entrepot.blobs.objects_faults import store_faults
from entrepot.blobs.objects_place import Way
from entrepot.model.clock import SECOND


def read_clock(sends: Way, asks: Way) -> int:
    """In µs, to the second that has begun. Raises StorageFailed, Unavailable."""
    name = f"{FOLDER}/{secrets.token_hex(8)}/clock"
    with store_faults("ask for the time", name):
        obstore.put(sends, name, b"now", use_multipart=False)
        try:
            return int(obstore.head(asks, name)["last_modified"].timestamp()) * SECOND
        finally:
            obstore.delete(asks, name)
