"""How much one transaction takes on, so that whoever waits for its locks does not notice."""

_WANTED_SECONDS = 0.015


class Pace:
    """A size of batches that follows the time that they take, commit included: `most` at once.

    A transaction of a few costs nearly as much as one of some more, so there is a least as well.
    """

    def __init__(self, most: int) -> None:
        self._least, self._most = max(1, most // 10), most
        self.size = max(1, most // 4)

    def took(self, count: int, seconds: float) -> None:
        """A batch of so many took so long."""
        fitting = int(count * _WANTED_SECONDS / max(seconds, 1e-6))
        if fitting < self.size or count == self.size:
            self.size = max(self._least, min(fitting, 2 * self.size, self._most))
