"""The columns that hold sealed secrets, and how all of them are walked and sealed anew.

A new sealed column is a `SealedColumn` in SEALED: rotation of the key, and the tests of it, find it
there. Whoever writes the column binds its values to `SealedColumn.bound_to`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from entrepot.db.database import Row, Transaction, Value


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column of sealed texts, NULL where there is none.

    `key` are columns that name a row for good, in the order of an index. `bound_to` makes what a
    value is bound to from their values, as strings.
    """

    table: str
    key: tuple[str, ...]
    column: str
    bound_to: Callable[..., tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SealedValue:
    """The sealed text of one row."""

    key: Row
    text: str


def _of_idempotency_key(token_id: int, key: str) -> tuple[str, ...]:
    return ("idempotency_keys", str(token_id), key)


IDEMPOTENCY_KEYS = SealedColumn(
    "idempotency_keys", ("token_id", "key"), "sealed", _of_idempotency_key
)


def _of_upstream(organisation_id: int, upstream_id: int) -> tuple[str, ...]:
    return (str(organisation_id), "upstreams", str(upstream_id))


UPSTREAMS = SealedColumn("upstreams", ("organisation_id", "id"), "sealed", _of_upstream)
SEALED: tuple[SealedColumn, ...] = (IDEMPOTENCY_KEYS, UPSTREAMS)


async def count(tx: Transaction, where: SealedColumn) -> int:
    """How many values the column holds."""
    row = await tx.fetch_one(f"SELECT COUNT({where.column}) FROM {where.table}")
    return int(row[0] or 0) if row else 0


async def page(
    tx: Transaction, where: SealedColumn, after: Row | None, limit: int
) -> list[SealedValue]:
    """At most `limit` values, in the order of their rows' keys, of the rows behind `after`."""
    key = ", ".join(where.key)
    behind, values = "", dict[str, Value]()
    if after is not None:
        behind = f"AND ({key}) > ({_names(where)})"
        values = _values(where, after)
    rows = await tx.fetch_all(
        f"""
        SELECT {key}, {where.column}
          FROM {where.table}
         WHERE {where.column} IS NOT NULL
           {behind}
         ORDER BY {key}
         LIMIT :limit
        """,
        limit=limit,
        **values,
    )
    return [SealedValue(row[:-1], str(row[-1])) for row in rows]


async def replace(tx: Transaction, where: SealedColumn, old: SealedValue, text: str) -> bool:
    """Put `text` in the place of `old`; False when the row is gone or holds something else now."""
    row = " AND ".join(f"{name} = :key_{name}" for name in where.key)
    changed = await tx.execute(
        f"""
        UPDATE {where.table}
           SET {where.column} = :new_text
         WHERE {row}
           AND {where.column} = :old_text
        """,
        new_text=text,
        old_text=old.text,
        **_values(where, old.key),
    )
    return changed > 0


def _names(where: SealedColumn) -> str:
    return ", ".join(f":key_{name}" for name in where.key)


def _values(where: SealedColumn, key: Row) -> dict[str, Value]:
    return {f"key_{name}": value for name, value in zip(where.key, key, strict=True)}
