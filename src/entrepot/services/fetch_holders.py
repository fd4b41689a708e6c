"""Who may have what a fetch brings: by a proof of their own, or on the word of whoever leads."""

from entrepot.db.fetches import FetchRow
from entrepot.model.access import Repository
from entrepot.model.upstreams import Source
from entrepot.services.fetch_progress import Progress


class Holders:
    """The repositories that wait for a blob in this process.

    `proved` are those whose own credential and path reach it: all of them hold it in the end. While
    another process leads for a repository, that one's upstream path is asked there, and its readers
    here need no question of their own (`trusting`); this ends with that leader.
    """

    def __init__(self, progress: Progress) -> None:
        self.proved: dict[int, Repository] = {}
        self.trusting: dict[int, Repository] = {}
        self._progress = progress
        self._word: tuple[str, int] | None = None  # the leader's row, and for whom it leads

    def has(self, repository: Repository) -> bool:
        """Whether the repository may have what is here now. Asked for every piece."""
        if repository.id in self.proved:
            return True
        if self._word is None or self._word[1] != repository.id:
            return False
        self.trusting[repository.id] = repository
        return True

    def prove(self, repository: Repository) -> None:
        """The repository's own credential was seen to reach the blob at its own path."""
        self.trusting.pop(repository.id, None)
        self.proved[repository.id] = repository

    def refuse(self, repository: Repository) -> None:
        """The repository may not have the blob, as far as is known now."""
        self.trusting.pop(repository.id, None)
        self.proved.pop(repository.id, None)

    def hear(self, row: FetchRow | None) -> None:
        """Take the word of whoever leads now, and nobody else's any more; None: nobody's.

        What is here already came for another, perhaps: then it counts once the upstream answered.
        """
        word = (row.id, row.repository_id) if row is not None else None
        if word != self._word:
            is_good = row is None or row.size is not None or not self._progress.is_announced
            self._word = word if is_good else None


def source_of(repository: Repository) -> Source:
    """Where a pull-through repository comes from."""
    if repository.source is None:
        message = "only pull-through repositories fetch"
        raise AssertionError(message)
    return repository.source
