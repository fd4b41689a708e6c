"""Files that hold secrets: readable by their owner alone, and always whole."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from entrepot.cli.messages import Refused


def write_private(path: Path, text: str) -> None:
    """Replace a file at once; its mode becomes 0600. A symbolic link stays one.

    Raises Refused.
    """
    try:
        path = path.resolve()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file, or nothing in it.

    Raises Refused.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}") from error
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise Refused(f"{path} is not JSON ({error}); mend it, or move it away") from error
    if not isinstance(found, dict):
        raise Refused(f"{path} holds no JSON object; mend it, or move it away")
    return found
