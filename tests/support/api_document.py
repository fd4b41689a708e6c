"""The OpenAPI document as a server hands it out, without a server."""

from functools import cache
from typing import Any, cast

from entrepot.api.application import build
from entrepot.api.reference import Reference

BASE = "https://registry.example.com"


@cache
def reference() -> Reference:
    """The document and the page. No service is asked for them."""
    found: Reference = build(cast("Any", None), "1.2.3").state.reference
    return found


@cache
def document() -> dict[str, Any]:
    return reference().document(BASE)
