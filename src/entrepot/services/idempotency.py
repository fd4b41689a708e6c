"""A creation that is repeated with the same key is made once, and answered alike each time.

Answers hold secrets, and requests passwords: what is kept of both is sealed. A crash between the
creation and its answer being kept leaves the key free a minute later: the repetition then creates
again.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

from entrepot.db import idempotency
from entrepot.db.database import Database, Transaction
from entrepot.db.sealed import IDEMPOTENCY_KEYS
from entrepot.identity.seal import Seal
from entrepot.model.access import Actor
from entrepot.model.clock import DAY, MINUTE, Clock
from entrepot.model.errors import FieldInvalid, Taken

KEY_LIMIT = 255
_KEY = re.compile(rf"[!-~]{{1,{KEY_LIMIT}}}")


@dataclass(frozen=True, slots=True)
class First:
    """The first answer: its status and body."""

    status: int
    body: bytes


class Idempotency:
    """Remembers answers for a day."""

    def __init__(self, database: Database, clock: Clock, seal: Seal) -> None:
        self._database = database
        self._clock = clock
        self._seal = seal

    async def begin(self, token_id: int, key: str, request: bytes) -> First | None:
        """The answer that the key already has, or None to go on; `request` is all of it.

        Raises Taken for a key that another request has, or that is at work; FieldInvalid.
        """
        if _KEY.fullmatch(key) is None:
            message = f"Idempotency-Key is 1 to {KEY_LIMIT} ASCII letters, digits or signs"
            raise FieldInvalid(message, field="Idempotency-Key")
        request_hash = _hash(request)
        now = self._clock.now()

        async def work(tx: Transaction) -> idempotency.KeptAnswer | None:
            is_ours = await idempotency.reserve(
                tx,
                token_id,
                key,
                sealed=self._sealed(token_id, key, request_hash),
                now=now,
                stale=now - MINUTE,
            )
            return None if is_ours else await idempotency.find(tx, token_id, key)

        kept = await self._database.write(work)
        if kept is None:
            return None
        opened = self._seal.open(kept.sealed, IDEMPOTENCY_KEYS.bound_to(token_id, key))
        if not hmac.compare_digest(opened[: len(request_hash)], request_hash):
            message = "this Idempotency-Key was used for another request; take a new one"
            raise Taken(message, field="Idempotency-Key")
        if kept.status == 0:
            raise Taken("the first request with this key is still at work; repeat it later")
        return First(kept.status, opened[len(request_hash) :])

    def is_for(self, actor: Actor) -> bool:
        """Whether answers are kept for an actor: not for nobody, nor for what covers /v2/ alone.

        A credential that has ended gets no answer again that it got before.
        """
        if actor.is_anonymous or actor.granted is not None:
            return False
        return actor.expires_at is None or self._clock.now() < actor.expires_at

    async def finish(self, token_id: int, key: str, request: bytes, answer: First | None) -> None:
        """Keep the answer; None gives the key back."""

        async def work(tx: Transaction) -> None:
            if answer is None:
                await idempotency.release(tx, token_id, key)
                return
            sealed = self._sealed(token_id, key, _hash(request) + answer.body)
            await idempotency.keep(tx, token_id, key, status=answer.status, sealed=sealed)

        await self._database.write(work)

    async def sweep(self) -> int:
        """Forget answers that are older than a day; how many."""
        moment = self._clock.now() - DAY
        return await self._database.write(
            lambda tx: idempotency.forget_before(tx, moment), durable=False
        )

    def _sealed(self, token_id: int, key: str, body: bytes) -> str:
        return self._seal.seal(body, IDEMPOTENCY_KEYS.bound_to(token_id, key))


def _hash(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()
