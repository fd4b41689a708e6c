"""Settings of what goes after a while: retention, collection, scrub."""

from typing import Self

from pydantic import Field
from pydantic import model_validator as check_all

from entrepot.config.kinds import MIB, Section, Size


class RetentionSettings(Section):
    """How long what is pushed is kept where neither repository nor organisation says."""

    days: int | None = Field(
        default=None, ge=1, le=36_500, description="days since the last push; default: 7"
    )
    tags: int | None = Field(
        default=None, ge=1, le=1_000_000, description="or the newest tags of a repository"
    )
    never: bool = Field(default=False, description="or never delete")
    every_seconds: int = Field(
        default=3_600, ge=1, description="how often a repository is looked at"
    )
    restore_seconds: int = Field(
        default=86_400, ge=0, description="how long what was deleted can be restored"
    )

    @check_all(mode="after")
    def _says_one_thing(self) -> Self:
        if sum([self.days is not None, self.tags is not None, self.never]) > 1:
            raise ValueError("set one of retention.days, retention.tags and retention.never")
        return self


class CollectionSettings(Section):
    """Collection of what nothing relies on any more."""

    every_seconds: int = Field(default=10, ge=1, description="how often it looks for work")
    delay_seconds: int = Field(
        default=3_600,
        ge=0,
        description="how long an object stays that nothing points at, for pulls in progress",
    )


class ScrubSettings(Section):
    """Reading stored objects again, to find damage before somebody pulls it."""

    bytes_per_second: Size = Field(
        default=10 * MIB, description="how much one server process reads; 0 for no scrub"
    )
    every_days: int = Field(default=30, ge=1, le=3_650, description="how often each object is read")
