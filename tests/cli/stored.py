"""A data folder with an image in it, and who types commands at its machine."""

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.forked_command import Done, run_forked
from tests.support.server import ENTREPOT


class Stored:
    """`image` is the manifest."""

    def __init__(self, data: Path, image: dict[str, Any]) -> None:
        self.data = data
        self.image = image
        self.objects = sorted((data / "blobs").glob("*/*"))
        self._environment = {"ENTREPOT_DATA": str(data)}

    def run(self, *words: str) -> Done:
        """What `entrepot admin` says."""
        return run_forked("admin", *words, environment=self._environment)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin it, to be killed."""
        return subprocess.Popen(
            [ENTREPOT, "admin", *words], env={**os.environ, **self._environment}
        )
