"""What tests of the tag sync do: have one done, wait for its end, look at what it left."""

from typing import Any

from tests.mirror.stand import Cache, Stand
from tests.support.eventually import eventually
from tests.support.upstreams import ScriptedUpstream


class Synced:
    """A pull-through repository, as who administers it sees it."""

    def __init__(self, stand: Stand, cache: Cache) -> None:
        self.stand = stand
        self.cache = cache
        listed = stand.admin.items(f"/organisations/main/repositories?path={cache.name}")
        self.id = listed[0]["id"]

    def facts(self) -> dict:
        """The repository as the API shows it."""
        return self.stand.admin.get(f"/repositories/{self.id}").json()

    def runs(self) -> list[dict]:
        """Its syncs, newest first."""
        return self.stand.admin.items(f"/repositories/{self.id}/sync-runs")

    def start(self) -> dict:
        """Ask for a sync; the run."""
        answer = self.stand.admin.post(f"/repositories/{self.id}/sync")
        assert answer.status_code == 202, answer.text
        return answer.json()

    def end_of(self, run: dict) -> dict:
        """A run when it has ended."""
        found: dict = {}

        def has_ended() -> bool:
            found.update(next(each for each in self.runs() if each["id"] == run["id"]))
            return found["ended_at"] is not None

        eventually(has_ended, missing=found)
        return found

    def sync(self) -> dict:
        """Have it synced; the run as it ended."""
        return self.end_of(self.start())

    def first(self) -> dict:
        """The run that nobody asked for, when it has ended."""
        eventually(lambda: bool(self.runs()), missing="no run began")
        return self.end_of(self.runs()[-1])

    def set(self, **upstream: object) -> None:
        """Change how it comes from its upstream."""
        answer = self.stand.admin.patch(f"/repositories/{self.id}", {"upstream": upstream})
        assert answer.status_code == 200, answer.text

    def tags(self) -> dict[str, str]:
        """Its tags, by what they name."""
        found = self.stand.admin.items(f"/repositories/{self.id}/tags?limit=1000")
        return {tag["name"]: tag["digest"] for tag in found}


def mirror_of(
    stand: Stand, upstream: ScriptedUpstream, path: str = "library/app", **fields: Any
) -> Synced:
    """A repository of a path of the upstream; with `sync` its first sync begins by itself."""
    return Synced(stand, stand.cache_of(stand.add_upstream(upstream), path, **fields))
