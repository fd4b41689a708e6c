"""A process of its own that writes: PATH NAME COUNT CALLERS. Prints one line per acknowledged write."""

import asyncio
import sys
from pathlib import Path

from entrepot.db.sqlite import SQLiteDatabase
from tests.db.settings import put


async def main(path: Path, name: str, count: int, callers: int) -> None:
    database = SQLiteDatabase(path)
    await database.open()

    async def write(caller: int) -> None:
        for number in range(count):
            row = f"{name}-{caller}-{number}"
            await database.write(lambda tx, row=row: put(tx, row), durable=number % 2 == 0)  # type: ignore[misc]  # mypy cannot infer a default
            print(row, flush=True)
            if number % 10 == 0:
                await database.checkpoint()

    await asyncio.gather(*(write(caller) for caller in range(callers)))
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
