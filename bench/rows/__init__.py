"""The rows of the table, in the order they run and are shown."""

from bench.row import Row
from bench.rows import access, downloads, manifests, memory, pushes, starts, tags, uploads

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
)
