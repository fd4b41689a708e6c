"""What becomes of the object of a fetch that ends without a blob.

Nobody knows then whether it is in the store: what failed here may be there, or come late. So it is
buried in the transaction that takes the row from its leader, who cannot make it a blob without one.
"""

from entrepot.db import blobs, tombstones
from entrepot.db.database import Transaction


async def bury(tx: Transaction, id: str, digest: str, *, due_at: int) -> None:  # noqa: A002
    """Have the object that a fetch may have stored deleted when it is due, in µs.

    Unless that is done already, or it is a blob after all: then its leader's COMMIT was not heard.
    """
    if not await blobs.is_key_known(tx, id):
        await tombstones.bury(tx, storage_key=id, digest=digest, size=0, due_at=due_at)
