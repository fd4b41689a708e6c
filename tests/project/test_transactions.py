"""Whoever holds a connection to the database waits for the database alone.

A pool is small: one slow disk, object store or upstream, awaited inside a transaction, would keep
everybody else waiting.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "entrepot"


def bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """What runs while a transaction is open: it is called `tx` everywhere."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.AsyncWith):
            names = [ast.unparse(item.optional_vars) for item in node.items if item.optional_vars]
        elif isinstance(node, ast.AsyncFunctionDef):
            names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
        if "tx" in names and isinstance(node, ast.AsyncWith | ast.AsyncFunctionDef):
            yield node.body


def waits(body: list[ast.stmt]) -> Iterator[ast.expr]:
    """Whatever is awaited there."""
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Await):
            yield node.value
        elif isinstance(node, ast.AsyncWith):
            yield from (item.context_expr for item in node.items)
        elif isinstance(node, ast.AsyncFor):
            yield node.iter


def is_of_the_transaction(awaited: ast.expr) -> bool:
    """Whether it is given the transaction, or is a statement of it."""
    if not isinstance(awaited, ast.Call):
        return False
    given = [*awaited.args, *(keyword.value for keyword in awaited.keywords)]
    return ast.unparse(awaited.func).startswith("tx.") or "tx" in map(ast.unparse, given)


def foreign(tree: ast.Module) -> list[str]:
    """What is awaited while a transaction is open, and knows nothing of it."""
    return [
        f"{awaited.lineno}: {ast.unparse(awaited)}"
        for body in bodies(tree)
        for awaited in waits(body)
        if not is_of_the_transaction(awaited)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "async def work(tx):\n  await store.remove(key)",
        "async def work(tx):\n  async with asyncio.timeout(3):\n    await tx.execute('')",
        "async def look():\n  async with database.read() as tx:\n    await asyncio.sleep(1)",
        "async def work(tx):\n  async for piece in stored:\n    pass",
    ],
)
def test_the_search_finds(code):
    assert foreign(ast.parse(code))


def test_nothing_else_is_awaited_while_a_transaction_is_open():
    trees = {file.relative_to(SOURCE): ast.parse(file.read_text()) for file in SOURCE.rglob("*.py")}

    assert sum(len(list(bodies(tree))) for tree in trees.values()) > 300
    assert {str(file): found for file, tree in trees.items() if (found := foreign(tree))} == {}
