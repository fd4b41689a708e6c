"""The running hashes of uploads whose last bytes this process received.

`hashlib` cannot save its state, so a hash lives as long as its process. A session that came from
another one is hashed when it is committed, once, however often it moved.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from entrepot.model.digests import new_hash
from entrepot.model.stored import UploadSession

if TYPE_CHECKING:
    from hashlib import _Hash

_MOST = 4_096


class LiveHashes:
    """Hashes by session, each with the size it has seen; the least recently used go first."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()

    def take(self, session: UploadSession) -> "_Hash | None":
        """The hash of all bytes of the session so far, if this process has it.

        It is taken away: whoever fails to keep it again has spoilt it.
        """
        size, running = self._hashes.pop(session.id, (0, None))
        if session.size == 0:
            return new_hash(session.algorithm)
        return running if size == session.size else None

    def keep(self, upload_id: str, size: int, running: "_Hash") -> None:
        """Remember that `running` has seen the first `size` bytes."""
        self._hashes[upload_id] = (size, running)
        while len(self._hashes) > _MOST:
            self._hashes.popitem(last=False)

    def drop(self, upload_id: str) -> None:
        """Forget a session that ended."""
        self._hashes.pop(upload_id, None)
