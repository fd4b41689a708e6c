"""The OpenAPI document, and the page that is made from it."""

import base64
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from entrepot.api.call import Base, declares
from entrepot.api.description import describe
from entrepot.api.page import Page, prose
from entrepot.model.access import Action

router = APIRouter()
_REMEMBERED = 16  # addresses by which one server is known


class Reference:
    """Hands out the document and the page, each with the address that the reader came by."""

    def __init__(self, app: FastAPI, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._routers = routers
        environment = Environment(
            loader=PackageLoader("entrepot.api"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["prose"] = prose
        self._template = environment.get_template("reference.html")
        self._style = files("entrepot.api").joinpath("templates/reference.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        # The one style on the page, and nothing else from anywhere.
        self.policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'; sandbox"
        )
        self.page = lru_cache(maxsize=_REMEMBERED)(self._page)

    def document(self, base: str) -> dict[str, Any]:
        """The document for readers who came by `base`."""
        if self._app.openapi_schema is None:
            self._app.openapi_schema = describe(self._app, self._routers)
        return self._app.openapi_schema | {"servers": [{"url": base}]}

    def _page(self, base: str) -> str:
        # The style is a file of ours, and its hash is in the policy as it stands.
        style = Markup(self._style)  # noqa: S704  # ours
        return self._template.render(page=Page(self.document(base), base), style=style)


@router.get("/v1/openapi.json", include_in_schema=False, **declares(Action.PUBLIC))
async def show_document(request: Request, base: Base) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(_reference(request).document(base))


@router.get("/docs", include_in_schema=False, **declares(Action.PUBLIC))
async def show_page(request: Request, base: Base) -> HTMLResponse:
    """The page."""
    reference = _reference(request)
    headers = {"content-security-policy": reference.policy, "referrer-policy": "no-referrer"}
    return HTMLResponse(reference.page(base), headers=headers)


def _reference(request: Request) -> Reference:
    reference: Reference = request.app.state.reference
    return reference
