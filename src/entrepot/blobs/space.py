"""A folder whose disk must keep some space free, for the database that may lie there too."""

import shutil
from pathlib import Path

from entrepot.blobs.faults import storage_faults
from entrepot.model.errors import StorageFull


class Space:
    """The free space of a folder's disk. Below `low_water_bytes` of it nothing new is stored."""

    def __init__(self, folder: Path, low_water_bytes: int) -> None:
        self._folder = folder
        self._low_water = low_water_bytes

    def is_low(self) -> bool:
        """Whether nothing new is stored. Raises StorageFailed."""
        return self._free_bytes() < self._low_water

    def require(self, size: int = 0) -> None:
        """Raises StorageFull, with the numbers, where `size` more bytes leave too little free."""
        free = self._free_bytes()
        if free - size < self._low_water:
            message = (
                f"the registry has {free} bytes free and stores nothing new below"
                f" {self._low_water}; pulls of what it has, and deletions, go on"
            )
            raise StorageFull(message, free=free, low_water=self._low_water)

    def _free_bytes(self) -> int:
        with storage_faults("ask for free space"):
            return shutil.disk_usage(self._folder).free
