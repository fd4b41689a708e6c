"""Settings of where the bytes are."""

import re
from pathlib import Path
from typing import Literal, Self, cast

from pydantic import Field, SecretStr
from pydantic import field_validator as check
from pydantic import model_validator as check_all

from entrepot.config.kinds import GIB, Endpoint, Section, Size

Scheme = Literal["s3", "gs", "az"]

_OBJECTS = re.compile(
    r"(?P<scheme>s3|gs|az)://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,221})"
    r"(?P<prefix>(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*)/?"
)


class BlobsSettings(Section):
    """Where the bytes are."""

    url: str = Field(
        default="",
        description=(
            "`file:///FOLDER`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or"
            " `az://CONTAINER/PREFIX`; default: `blobs` in `data`"
        ),
    )
    endpoint: Endpoint = Field(
        default="",
        description="where the object store is, if not at AWS, Google or Azure themselves",
    )
    region: str = Field(default="", description="the region of an S3 bucket")
    access_key_id: str = Field(
        default="",
        description="the key of an S3 store, or the account of Azure; default: this machine's own",
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="the secret that goes with it"
    )
    low_water_bytes: Size = Field(
        default=GIB,
        description="nothing new is stored on a disk of ours while less than this is free on it",
    )
    cache_bytes: Size = Field(
        default=GIB,
        description="copies that a node keeps of what it streams from an object store; 0 for none",
    )

    @check("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if url.startswith("file:///") and url != "file:///":
            return url
        if _OBJECTS.fullmatch(url) is None:
            raise ValueError(
                "must be file:/// with a folder, or s3://, gs:// or az:// with a bucket and, if you"
                " like, a prefix"
            )
        return url

    @check_all(mode="after")
    def _go_together(self) -> Self:
        if bool(self.access_key_id) != (self.secret_access_key is not None):
            raise ValueError("blobs.access_key_id and blobs.secret_access_key go together")
        if self.access_key_id and self.url.startswith("gs:"):
            raise ValueError(
                "gs:// takes no access key: name the service account's file in"
                " GOOGLE_APPLICATION_CREDENTIALS"
            )
        if not self.is_objects and (self.endpoint or self.region or self.access_key_id):
            raise ValueError("endpoint, region and keys are for an object store (blobs.url)")
        return self

    @property
    def is_objects(self) -> bool:
        """Whether the bytes are in an object store."""
        return not self.url.startswith("file:")

    @property
    def folder(self) -> Path:
        """The folder of a `file:///` store."""
        return Path(self.url.removeprefix("file://"))

    @property
    def bucket(self) -> tuple[Scheme, str, str]:
        """The scheme, bucket and prefix of an object store."""
        found = _OBJECTS.fullmatch(self.url)
        if found is None:
            raise ValueError(self.url)
        return cast("Scheme", found["scheme"]), found["bucket"], found["prefix"].strip("/")
