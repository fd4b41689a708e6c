"""What is asked of an upload's bytes before they are a blob, wherever they are kept."""

from typing import Protocol

from entrepot.blobs.store import Upload
from entrepot.model.stored import UploadSession


class StagedUploads(Protocol):
    """Files of a folder, or segments in an object store: how they are found and how they end."""

    async def read_end(self, session: UploadSession) -> UploadSession:
        """The session as it is by now, for whoever adds to it. Raises UploadUnknown."""

    async def read_all(self, session: UploadSession) -> UploadSession:
        """The same with all that it has, for whoever ends it.

        Raises UploadUnknown, ObjectMissing.
        """

    async def cancel(self, upload: Upload, session: UploadSession) -> None:
        """End an open session and forget its bytes. Raises UploadUnknown."""

    async def distrust(self, upload: Upload, session: UploadSession) -> None:
        """End a session if what it has cannot be trusted after a failure of its store."""

    async def bury_left(self, session: UploadSession) -> None:
        """Have removed what a writer may have left whose session ended without it."""

    async def expire(self, session: UploadSession) -> None:
        """End a session that is past its time, unless somebody goes on with it just now."""

    async def forget(self, session: UploadSession) -> None:
        """End a session that became a blob and is past its time."""

    async def sweep_strays(self) -> int:
        """Remove what no session knows, once it is old; how many."""
