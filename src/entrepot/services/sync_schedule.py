"""When the sync of a repository is due."""

from datetime import UTC, datetime

from cronsim import CronSim

from entrepot.model.clock import MINUTE, SECOND

SPREAD = MINUTE  # over which the repositories of one moment are spread


class Schedule:
    """A cron expression in UTC, or nothing; each repository has a delay of its own behind it."""

    def __init__(self, cron: str) -> None:
        self._cron = cron

    @property
    def is_on(self) -> bool:
        """Whether anything is ever due."""
        return bool(self._cron)

    def next(self, repository_id: int, after: int) -> int:
        """The first moment behind `after` at which the repository is due, in µs."""
        delay = repository_id % (SPREAD // SECOND) * SECOND
        return self._moment(after - delay) + delay

    def latest(self, now: int) -> int:
        """No repository that was just put off is due later than this, in µs."""
        return self._moment(now) + SPREAD

    def _moment(self, after: int) -> int:
        """The first moment of the expression behind `after`."""
        found = next(CronSim(self._cron, datetime.fromtimestamp(after // SECOND, UTC)))
        return int(found.timestamp()) * SECOND
