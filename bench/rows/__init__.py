"""The rows of the table, in the order they run and are shown."""

from bench.row import Row
from bench.rows import (
    access,
    caching_memory,
    cold,
    crowds,
    downloads,
    manifests,
    memory,
    pushes,
    starts,
    tags,
    uploads,
    warm,
)

ROWS: tuple[Row, ...] = (
    manifests.BASIC,
    manifests.BEARER,
    access.BASIC,
    access.BEARER,
    access.MINTING,
    downloads.ONE,
    downloads.FOUR,
    uploads.ROW,
    pushes.ROW,
    tags.ROW,
    starts.ROW,
    memory.ROW,
    cold.BRAKED,
    cold.UNBRAKED,
    cold.FIRST_BYTE,
    cold.LAYERS,
    crowds.TIMES,
    crowds.BYTES,
    crowds.THRONG,
    warm.FRESH,
    warm.STALE,
    warm.DEAD,
    caching_memory.ONE,
    caching_memory.CROWDS,
)
