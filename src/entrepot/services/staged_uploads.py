"""What is asked of an upload's bytes before they are a blob, wherever they are kept."""

from typing import Protocol

from entrepot.blobs.store import Upload
from entrepot.model.errors import EntrepotError
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

    async def after_failure(
        self, upload: Upload, session: UploadSession, error: EntrepotError
    ) -> None:
        """See to what cannot be trusted any more, or may be left, where a writer has failed."""

    async def expire(self, session: UploadSession) -> None:
        """End a session that is past its time, unless somebody goes on with it just now."""

    async def forget(self, session: UploadSession) -> None:
        """End a session that became a blob and is past its time."""

    async def sweep_strays(self) -> int:
        """Remove what no session knows, once it is old; how many."""
