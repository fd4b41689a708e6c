"""A bucket of an S3 server: where it is, who may use it, and what really lies in it."""

import secrets
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import botocore.session
from botocore.config import Config

_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """An S3 server and the keys of its one user."""

    endpoint: str
    access_key_id: str
    secret_access_key: str

    def new_bucket(self) -> "Bucket":
        """One that nothing was ever put into."""
        bucket = Bucket(self, f"test-{secrets.token_hex(8)}")
        bucket.client().create_bucket(Bucket=bucket.name)
        return bucket


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, reached at the endpoint of its server."""

    server: ObjectServer
    name: str

    def behind(self, endpoint: str) -> Self:
        """The same bucket, reached elsewhere: through a proxy."""
        return replace(self, server=replace(self.server, endpoint=endpoint))

    def settings(self, prefix: str = "") -> dict[str, str]:
        """The environment of a server whose objects are to lie here."""
        return {
            "ENTREPOT_BLOBS__URL": f"s3://{self.name}/{prefix}".rstrip("/"),
            "ENTREPOT_BLOBS__ENDPOINT": self.server.endpoint,
            "ENTREPOT_BLOBS__REGION": _REGION,
            "ENTREPOT_BLOBS__ACCESS_KEY_ID": self.server.access_key_id,
            "ENTREPOT_BLOBS__SECRET_ACCESS_KEY": self.server.secret_access_key,
        }

    def client(self) -> Any:
        """A client of other people's making; it tries everything once."""
        return _client(self.server)

    def objects(self) -> dict[str, int]:
        """What lies in it, and the size of each."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}

    def unfinished(self) -> list[str]:
        """The keys of the multipart uploads that nobody has completed or aborted."""
        pages = self.client().get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        return [found["Key"] for page in pages for found in page.get("Uploads", [])]


@cache  # to make one takes a tenth of a second of a processor
def _client(server: ObjectServer) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        region_name=_REGION,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=10,
            read_timeout=60,
        ),
    )
