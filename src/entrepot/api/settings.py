"""What a server administrator can switch while the server runs."""

from fastapi import APIRouter
from pydantic import Field

from entrepot.api.call import Body, Caller, Services, declares
from entrepot.model.access import Action
from entrepot.services.server_settings import ServerSettings

router = APIRouter(tags=["server"])


class Settings(Body):
    """The switches."""

    is_read_only: bool = Field(
        description="pulls go on; pushes and deletions are refused everywhere"
    )


@router.get("/settings", **declares(Action.ADMINISTER))
async def show_settings(services: Services, caller: Caller) -> Settings:
    """The switches as they are."""
    found = await services.server.settings(caller)
    return Settings(is_read_only=found.is_read_only)


@router.patch("/settings", **declares(Action.ADMINISTER))
async def change_settings(services: Services, caller: Caller, wanted: Settings) -> Settings:
    """Set the switches; it holds on every node within 5 seconds."""
    await services.server.change(caller, ServerSettings(wanted.is_read_only))
    return wanted
