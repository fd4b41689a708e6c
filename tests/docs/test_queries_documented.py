"""docs/explain/queries.md names every query, and none that is gone."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

from entrepot import db

PAGE = Path(__file__).parents[2] / "docs" / "explain" / "queries.md"


def test_every_query_has_its_line():
    modules = [
        importlib.import_module(f"{db.__name__}.{found.name}")
        for found in pkgutil.iter_modules(db.__path__)
        if not found.ispkg
    ]
    queries = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in modules
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and "tx" in inspect.signature(function).parameters
    }

    documented = set(re.findall(r"`(\w+\.\w+)`", PAGE.read_text()))

    assert documented == queries
