"""Settings of what pull-through repositories bring without being asked, and let go again."""

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError
from pydantic import Field
from pydantic import field_validator as check

from entrepot.config.kinds import Section, Size


class MirrorSettings(Section):
    """What upstreams leave here: what they do not have, and repositories that pulls make."""

    missing_seconds: int = Field(
        default=30,
        ge=0,
        le=86_400,
        description="how long it counts that an upstream has no such tag or digest",
    )
    repositories: int = Field(
        default=10_000,
        ge=2,
        description=(
            "repositories of one upstream beyond which a pull makes no more; beyond half of that,"
            " none without a credential"
        ),
    )


class SyncSettings(Section):
    """The sync of tags with their upstreams."""

    cron: str = Field(
        default="15,45 * * * *",
        description=(
            "when repositories with a sync are synced, in UTC, each up to 60 s later; nothing for"
            " only by hand"
        ),
    )
    concurrency: int = Field(
        default=4, ge=1, le=100, description="tags that one worker syncs at once, of all its runs"
    )

    @check("cron")
    @classmethod
    def _is_a_schedule(cls, cron: str) -> str:
        if not cron.strip():
            return ""
        try:
            next(CronSim(cron, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError("must be a schedule of five fields, such as 15,45 * * * *") from error
        return cron


class EvictionSettings(Section):
    """What pull-through repositories let go, because their upstreams have it."""

    idle_seconds: int = Field(
        default=21_600,
        ge=60,
        description="blobs that nobody pushed leave a repository that nobody read for this long",
    )
    bytes: Size = Field(
        default=0,
        description=(
            "what pull-through repositories may hold together; beyond it they lose their blobs,"
            " the one that was read longest ago first; 0 for no limit"
        ),
    )
