"""What an organisation holds, for how long, what that costs, and how much it may."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from entrepot.model.clock import DAY, SECOND
from entrepot.model.errors import FieldInvalid

GB = 1_000_000_000
MONTH_SECONDS = 730 * 3_600
NEAR = Decimal("0.8")  # of a quota: from here on people are warned


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that an organisation may hold; None is no limit."""

    bytes: int | None = None
    repositories: int | None = None
    tags: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is limited."""
        return (self.bytes, self.repositories, self.tags) != (None, None, None)


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class Held:
    """What an organisation holds now: bytes, each digest once, and pushed tags.

    `repositories` is counted where somebody needs it.
    """

    bytes: int
    tags: int
    repositories: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one limit is used."""

    what: str
    used: int
    limit: int

    @property
    def is_near(self) -> bool:
        """Whether people are to be warned: it is at NEAR, or beyond."""
        return self.used >= self.limit * NEAR

    @property
    def percent(self) -> int:
        """Rounded down, so that 100 is full. A limit of nothing is full."""
        return self.used * 100 // self.limit if self.limit else 100

    def __str__(self) -> str:
        used, limit = (
            (readable(self.used), readable(self.limit))
            if self.what == "bytes"
            else (f"{self.used:,}", f"{self.limit:,} {self.what}")
        )
        return f"{used} of {limit} ({self.percent} %)"


def shares(held: Held, quota: Quota) -> list[Share]:
    """How much of each limit that there is."""
    return [
        Share(what, used, limit)
        for what, used, limit in (
            ("bytes", held.bytes, quota.bytes),
            ("repositories", held.repositories, quota.repositories),
            ("tags", held.tags, quota.tags),
        )
        if limit is not None
    ]


def warnings(held: Held, quota: Quota) -> list[str]:
    """What to tell people who are near a limit, or at it."""
    return [
        f"the organisation has used {share} of its quota"
        for share in shares(held, quota)
        if share.is_near
    ]


@dataclass(frozen=True, slots=True)
class Period:
    """Whole UTC days, from a midnight up to another, in µs."""

    start: int
    end: int

    @classmethod
    def of_month(cls, text: str) -> "Period":
        """`2026-01`. Raises FieldInvalid."""
        try:
            first = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  # a day has no zone
        except ValueError as error:
            raise FieldInvalid("a month is YYYY-MM", field="month") from error
        return cls(_midnight(first), _midnight(_next_month(first)))

    @classmethod
    def of_days(cls, first: date, last: date) -> "Period":
        """From the first day to the last, both within. Raises FieldInvalid."""
        if last < first or last == date.max:
            raise FieldInvalid("a period ends no earlier than it begins", field="to")
        return cls(_midnight(first), _midnight(last + timedelta(days=1)))

    @classmethod
    def month_at(cls, now: int) -> "Period":
        """The month that it is."""
        first = datetime.fromtimestamp(now // SECOND, UTC).date().replace(day=1)
        return cls(_midnight(first), _midnight(_next_month(first)))

    @property
    def first(self) -> date:
        """Its first day."""
        return _day(self.start)

    @property
    def last(self) -> date:
        """Its last day."""
        return _day(self.end - DAY)


def day_end(moment: int) -> int:
    """The midnight that ends the UTC day of this moment; a midnight begins its day."""
    return moment - moment % DAY + DAY


@dataclass(frozen=True, slots=True)
class Measured:
    """What one line held: bytes at the end of a period, and byte-seconds in it."""

    bytes: int
    byte_seconds: float

    def __sub__(self, other: "Measured") -> "Measured":
        return Measured(self.bytes - other.bytes, self.byte_seconds - other.byte_seconds)

    @property
    def gb_months(self) -> Decimal:
        """To six places."""
        return _six(Decimal(self.byte_seconds) / (GB * MONTH_SECONDS))

    def price(self, price_micros: int) -> Decimal:
        """At so many millionths for a GB-month, to six places."""
        months = Decimal(self.byte_seconds) / (GB * MONTH_SECONDS)
        return _six(months * price_micros / 1_000_000)


@dataclass(frozen=True, slots=True)
class UsageLine:
    """A repository or project, and what it held."""

    id: int
    name: str
    measured: Measured
    project: str | None = None
    """The public id of the project that it belongs to."""


def readable(count: int) -> str:
    """A number of bytes for people: `1.5 GB`."""
    size = Decimal(abs(count))
    sign = "-" if count < 0 else ""
    for unit in _units():
        if size < 1_000 or unit == "PB":  # noqa: PLR2004  # units are thousands
            text = f"{size:.1f}" if unit != "B" else f"{size}"
            return f"{sign}{text.removesuffix('.0')} {unit}"
        size /= 1_000
    raise AssertionError


def _units() -> Iterator[str]:
    yield from ("B", "kB", "MB", "GB", "TB", "PB")


def _six(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.000001"), ROUND_HALF_UP)


def _midnight(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY


def _day(midnight: int) -> date:
    return date(1970, 1, 1) + timedelta(days=midnight // DAY)


def _next_month(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)
