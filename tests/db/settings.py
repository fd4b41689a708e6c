"""The `installation` table as a dictionary, for tests that need just any row."""

from entrepot.db.database import Database, Transaction


async def put(tx: Transaction, name: str, value: str = "") -> None:
    await tx.execute(
        """
        INSERT INTO installation (name, value)
        VALUES (:name, :value)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value
        """,
        name=name,
        value=value,
    )


async def names(database: Database) -> list[str]:
    async with database.read() as tx:
        rows = await tx.fetch_all("SELECT name FROM installation ORDER BY name")
    return [str(name) for (name,) in rows]
