"""What a registry acknowledged to a client, and whether it kept its word.

Each operation is written down before it is sent and again when it is answered, as JSON lines in a
file outside the registry's folder. What was sent and not answered may have happened or not, but
not by halves.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server import Client, digest_of

# A thing that can be read: repository, `blobs` or `manifests`, digest or tag.
Key = tuple[str, str, str]
# What reading it gives: the digest of the bytes, or nothing.
Content = str | None


@dataclass(slots=True)
class Journal:
    """The acknowledged state, and the one change of which nobody knows."""

    path: Path
    known: dict[Key, Content] = field(default_factory=dict)
    doubtful: dict[Key, Content] = field(default_factory=dict)

    def begin(self, changes: Mapping[Key, Content]) -> None:
        """These changes are sent now, all in one request."""
        self.doubtful = dict(changes)
        self._note("begin", changes)

    def acknowledge(self) -> None:
        """The registry said that they are done."""
        self.known |= self.doubtful
        self._note("acknowledged", self.doubtful)
        self.doubtful = {}

    def verify(self, client: Client, keys: Iterable[Key] | None = None) -> None:
        """Read back, all or some; what was in doubt is known from now on."""
        if self.doubtful:
            found = {key: read(client, key) for key in self.doubtful}
            before = {key: self.known.get(key) for key in self.doubtful}
            assert found in (before, self.doubtful), f"half done: {found} of {self.doubtful}"
            self._note("found", found)
            self.known |= found
            self.doubtful = {}
        for key in self.known if keys is None else keys:
            found_here, expected = read(client, key), self.known.get(key)
            assert found_here == expected, f"{key} is {found_here}, acknowledged was {expected}"

    def _note(self, event: str, changes: Mapping[Key, Content]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            line = {"event": event, "changes": [[*key, value] for key, value in changes.items()]}
            file.write(json.dumps(line) + "\n")


def read(client: Client, key: Key) -> Content:
    """The digest of the bytes that the registry serves now; None where it has none."""
    name, kind, reference = key
    answer = client.request("GET", f"/v2/{name}/{kind}/{reference}")
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, f"{key}: {answer.status_code} {answer.text}"
    algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
    return digest_of(answer.content, algorithm)
