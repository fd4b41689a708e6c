"""Logging in with a password, and how often one may be guessed.

An attempt is counted before its password is looked at, and no longer counted once it was right. The
count is in the database, so that it holds over all workers and nodes. Only the pair of account and
address, and the address, are ever refused: whoever guesses at somebody's password from elsewhere
cannot keep them out, only slow them down by two seconds.
"""

import asyncio
import hashlib
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address

from entrepot.db import login_attempts, users
from entrepot.db.database import Database, Transaction
from entrepot.db.users import Account
from entrepot.identity.passwords import Passwords, require_acceptable
from entrepot.model.clock import MINUTE, SECOND, Clock
from entrepot.model.errors import (
    Conflict,
    Denied,
    EntrepotError,
    TooManyRequests,
    Unauthenticated,
)
from entrepot.model.ids import new_id

NAME_LIMIT = 64  # characters of a user's name; longer ones are nobody's
WINDOW = 5 * MINUTE
PER_ACCOUNT_AND_ADDRESS = 10
PER_ADDRESS = 100
LONGEST_DELAY_SECONDS = 2.0

REFUSED = "the name or the password is not right"
_UNSETTLED = 1_000  # attempts

Find = Callable[[Transaction], Awaitable[Account | None]]


@dataclass(frozen=True, slots=True)
class _Slowdown:
    """Up to `free` attempts within the window are answered at once, `most` with all the delay."""

    free: int
    most: int

    def delay(self, attempts: int) -> float:
        share = (min(attempts, self.most) - self.free) / (self.most - self.free)
        return LONGEST_DELAY_SECONDS * max(0.0, share)


_OF_ACCOUNT = _Slowdown(free=PER_ACCOUNT_AND_ADDRESS, most=50)
_OF_SERVER = _Slowdown(free=PER_ADDRESS, most=1_000)


@dataclass(frozen=True, slots=True)
class _Attempt:
    id: int
    account: str
    address: str
    at: int


class Login:
    """Who knows a password.

    `sleep` takes seconds; a delay is spent in it, with nothing held but the attempt's place.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._sleep = sleep
        # What the database's failure kept us from uncounting; the next attempt does it.
        self._unsettled: dict[int, None] = {}

    async def by_password(self, name: str, password: str, address: str) -> Account:
        """The account of the user `name`, whose password this is. `address` is the caller's.

        Raises Unauthenticated, with the same words whatever is not right; TooManyRequests, with
        `retry_after` in seconds, after 10 failures on this account from this address or 100 from
        this address within 5 minutes; Unavailable, which counts as no failure.
        """

        async def find(tx: Transaction) -> Account | None:
            return await users.find_account(tx, name) if may_be_a_name(name) else None

        attempt = self._attempt(account=account_key(name), address=_address_key(address))
        account = await self._check(attempt, find, password)
        if account is None:
            raise Unauthenticated(REFUSED)
        return account

    async def set_password(
        self,
        user_id: int,
        current: str | None,
        new: str,
        *,
        then: Callable[[Transaction], Awaitable[None]] | None = None,
    ) -> None:
        """Give a user, who is logged in, another password. Durable when it returns.

        `then` is what belongs to the same transaction. `current` has to be right where there is a
        password; who has none yet needs none.
        Raises PasswordInvalid for `new`, Denied for `current`; TooManyRequests, with `retry_after`
        in seconds, after 10 wrong ones within 5 minutes; Conflict when somebody else changed the
        user meanwhile; Unavailable.
        """
        async with self._database.read() as tx:
            account = await users.get_account(tx, user_id)
        if account is None or account.is_disabled:
            raise Denied("this user has no password to change")
        require_acceptable(account.name, new)
        if account.password_hash is not None:
            # Counted by user rather than address: it is one who holds a token and guesses.
            attempt = self._attempt(account=account_key(account.name), address=f"user {user_id}")
            account = await self._check(
                attempt, lambda tx: users.get_account(tx, user_id), current or ""
            )
            if account is None:
                raise Denied("the current password is not right")
        password_hash, version = await self._passwords.hash(account.name, new), account.version

        async def work(tx: Transaction) -> None:
            if await users.set_password(tx, user_id, password_hash, version=version):
                if then is not None:
                    await then(tx)
                return
            found = await users.get_account(tx, user_id)
            # Ours, if this is the second try after a COMMIT whose end was not known.
            if found is None or found.password_hash != password_hash:
                raise Conflict("somebody else changed this user meanwhile")

        await self._database.write(work)

    async def sweep(self) -> None:
        """Forget attempts that count no longer. Raises Unavailable."""
        until = self._clock.now() - WINDOW
        while await self._database.write(
            lambda tx: login_attempts.remove_old(tx, until=until), durable=False
        ):
            pass

    def _attempt(self, *, account: str, address: str) -> _Attempt:
        return _Attempt(new_id(), account, address, self._clock.now())

    async def _check(self, attempt: _Attempt, find: Find, password: str) -> Account | None:
        """The account, if this is its password; see by_password for what it raises."""
        unsettled = tuple(self._unsettled)
        try:
            account, delay = await self._database.write(
                lambda tx: _reserve(tx, attempt, find, unsettled), durable=False
            )
            for attempt_id in unsettled:
                self._unsettled.pop(attempt_id, None)
            if delay > 0:
                await self._sleep(delay)
            known = account.password_hash if account and not account.is_disabled else None
            if not await self._passwords.verify(known, password):
                return None
            if account is None or known is None:  # verify says no to these; mypy cannot know
                return None
            fresh = await self._passwords.refreshed(known, password)
            is_settled = await self._database.write(
                lambda tx: _settle(tx, attempt, account.id, known, fresh), durable=False
            )
        except TooManyRequests:
            raise  # and so is not counted
        except EntrepotError:
            if len(self._unsettled) < _UNSETTLED:
                self._unsettled[attempt.id] = None
            raise
        return account if is_settled else None


async def _reserve(
    tx: Transaction, attempt: _Attempt, find: Find, unsettled: tuple[int, ...]
) -> tuple[Account | None, float]:
    """Count an attempt; the account it is about, and how many seconds to let it wait."""
    await login_attempts.lock(tx, attempt.address)
    # This attempt too: it is there when this runs again after a COMMIT whose end was not known.
    await login_attempts.remove(tx, (attempt.id, *unsettled))
    since = attempt.at - WINDOW
    attempts = await login_attempts.of_address(tx, attempt.address, since=since, limit=PER_ADDRESS)
    _require_fewer(PER_ADDRESS, [at for _, at in attempts], attempt.at)
    of_account = [at for account, at in attempts if account == attempt.account]
    _require_fewer(PER_ACCOUNT_AND_ADDRESS, of_account, attempt.at)
    delay = max(
        _OF_ACCOUNT.delay(
            await login_attempts.count_of_account(
                tx, attempt.account, since=since, limit=_OF_ACCOUNT.most
            )
        ),
        _OF_SERVER.delay(await login_attempts.count(tx, since=since, limit=_OF_SERVER.most)),
    )
    await login_attempts.add(
        tx, id=attempt.id, account=attempt.account, address=attempt.address, now=attempt.at
    )
    return await find(tx), delay


async def _settle(
    tx: Transaction, attempt: _Attempt, user_id: int, known: str, fresh: str | None
) -> bool:
    """Count an attempt no longer, if the hash that was `known` still is the user's."""
    found = await users.get_account(tx, user_id)
    if found is None or found.is_disabled or found.password_hash is None:
        return False
    if found.password_hash not in {known, fresh}:
        return False
    await login_attempts.remove(tx, [attempt.id])
    if fresh is not None:
        await users.refresh_hash(tx, user_id, fresh, previous=known)
    return True


def _require_fewer(limit: int, attempts: list[int], now: int) -> None:
    """Raises TooManyRequests when `limit` attempts, newest first, are within the window."""
    if len(attempts) < limit:
        return
    seconds = max(1, -(-(attempts[limit - 1] + WINDOW - now) // SECOND))
    message = f"too many wrong passwords; try again in {seconds} seconds"
    raise TooManyRequests(message, retry_after=seconds)


def may_be_a_name(name: str) -> bool:
    """Whether a user can be called this; what cannot be is never sent to the database."""
    return 0 < len(name) <= NAME_LIMIT and name.isprintable()


def account_key(name: str) -> str:
    """What attempts on a name are counted under, whether there is such a user or not.

    Not the name itself: people type passwords into its field by mistake. 48 bits keep accounts
    apart well enough to count by, and fit many a wrong guess.
    """
    folded = unicodedata.normalize("NFKC", name[:NAME_LIMIT]).casefold()[:NAME_LIMIT]
    return hashlib.sha256(folded.encode("utf-8", "replace")).hexdigest()[:12]


def _address_key(address: str) -> str:
    """What attempts from an address are counted under: of IPv6 the /64 that one customer has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:NAME_LIMIT].encode("ascii", "replace").decode().replace("\0", "?")
    if parsed.version == 4:  # noqa: PLR2004  # of the internet protocol
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
