"""Which node this is: a machine, since it was started, with a data folder."""

import secrets
from contextlib import suppress
from pathlib import Path

from entrepot.blobs.faults import storage_faults

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def node_id(file: Path) -> str:
    """The same for all processes that share the file; made if there is none. Raises StorageFailed.

    Another after a restart of the machine: what was not synced before is not to be trusted.
    """
    with storage_faults("name this node"):
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            made = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
            made.write_text(secrets.token_hex(8))
            with suppress(FileExistsError):  # another process was first
                file.hardlink_to(made)
            made.unlink()
        return f"{file.read_text().strip()}.{_BOOT_ID.read_text().strip()[:8]}"
