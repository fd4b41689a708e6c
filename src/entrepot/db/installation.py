"""Facts about this installation, one value per name."""

from entrepot.db.database import Transaction


async def find(tx: Transaction, name: str) -> str | None:
    """The value kept under `name`."""
    row = await tx.fetch_one("SELECT value FROM installation WHERE name = :name", name=name)
    return str(row[0]) if row else None


async def put(tx: Transaction, name: str, value: str) -> None:
    """Keep `value` under `name`."""
    await tx.execute(
        """
        INSERT INTO installation (name, value)
        VALUES (:name, :value)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value
        """,
        name=name,
        value=value,
    )


async def remove(tx: Transaction, name: str) -> None:
    """Keep nothing under `name` any more."""
    await tx.execute("DELETE FROM installation WHERE name = :name", name=name)


async def keep(tx: Transaction, name: str, value: str) -> str:
    """Keep `value` under `name` unless something is there; what is there now."""
    row = await tx.fetch_one(
        """
        INSERT INTO installation (name, value)
        VALUES (:name, :value)
        ON CONFLICT (name) DO UPDATE SET value = installation.value
        RETURNING value
        """,
        name=name,
        value=value,
    )
    return str(row[0]) if row else value


async def replace(tx: Transaction, name: str, seen: str, value: str) -> bool:
    """Keep `value` in place of what was seen; False when somebody else changed it since."""
    changed = await tx.execute(
        "UPDATE installation SET value = :value WHERE name = :name AND value = :seen",
        name=name,
        seen=seen,
        value=value,
    )
    return changed > 0


async def lock(tx: Transaction, name: str) -> None:
    """Let nobody else past this line for `name` until this transaction ends."""
    await tx.execute("UPDATE installation SET value = value WHERE name = :name", name=name)
