"""The running hashes of uploads whose last bytes this process received.

`hashlib` cannot save its state, so a hash lives as long as its process.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from entrepot.model.digests import new_hash
from entrepot.model.stored import UploadSession

if TYPE_CHECKING:
    from hashlib import _Hash

_MOST = 4_096


class LiveHashes:
    """Hashes by session, each with where it stands; the least recently used go first.

    That is the size it has seen and, in an object store, the segment that ends there: a database
    that fell back to an earlier moment may have other bytes of the same size later.
    """

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, tuple[int, str, _Hash]] = OrderedDict()

    def take(self, session: UploadSession) -> "_Hash | None":
        """The hash of all bytes of the session so far, if this process has it.

        It is taken away: whoever fails to keep it again has spoilt it.
        """
        if session.size == 0:
            self.drop(session.id)
            return new_hash(session.algorithm)
        size, key, running = self._hashes.get(session.id, (0, "", None))
        if running is None or (size, key) != (session.size, _last_key(session)):
            return None
        self.drop(session.id)
        return running

    def take_behind(self, session: UploadSession) -> "tuple[int, _Hash] | None":
        """The hash of the first segments of the session, and how many bytes these are."""
        size, key, running = self._hashes.get(session.id, (0, "", None))
        ends = {segment.key: segment.start + segment.size for segment in session.segments}
        if running is None or ends.get(key) != size:
            return None
        self.drop(session.id)
        return size, running

    def keep(self, session: UploadSession, running: "_Hash") -> None:
        """Remember that `running` has seen all bytes of the session."""
        self._hashes[session.id] = (session.size, _last_key(session), running)
        while len(self._hashes) > _MOST:
            self._hashes.popitem(last=False)

    def drop(self, upload_id: str) -> None:
        """Forget a session that ended."""
        self._hashes.pop(upload_id, None)

    def sizes(self) -> dict[str, int]:
        """How many bytes of a session in segments each has seen, by session."""
        return {upload_id: size for upload_id, (size, key, _) in self._hashes.items() if key}


def _last_key(session: UploadSession) -> str:
    return session.segments[-1].key if session.segments else ""
