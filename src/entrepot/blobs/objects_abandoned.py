"""Multipart uploads that a crash left behind: not an object, not listed as one, and paid for.

obstore can neither list nor end them, so this signs with botocore. It blocks.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import structlog

from entrepot.blobs.objects_check import FOLDER
from entrepot.blobs.objects_place import Place
from entrepot.model.errors import StorageFailed, Unavailable

_ATTEMPTS = 4
# Others may keep something in the same bucket, below our prefix too.
_OURS = re.compile(
    rf"([0-9a-f]{{2}})/\1[0-9a-f]{{30}}(?:\.[0-9a-f]{{8}})?|{FOLDER}/[0-9a-f]{{16}}/two"
)

log = structlog.get_logger()


def abort_before(place: Place, moment: float) -> int:
    """End those of ours that were begun before then (POSIX seconds); how many.

    What the store will not end is told once and stays. Raises StorageFailed, Unavailable.
    """
    # 30 MB and half a second, which only S3 has to cost.
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    endpoint = place.endpoint
    if endpoint and place.is_virtual_hosted:
        endpoint = endpoint.replace(f"{place.bucket}.", "", 1)  # botocore puts it there itself
    session = Session()
    region = place.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    client = session.create_client(
        "s3",
        region_name=region or "us-east-1",
        endpoint_url=endpoint,
        verify=os.environ.get("SSL_CERT_FILE"),  # what obstore goes by
        aws_access_key_id=place.access_key_id,
        aws_secret_access_key=place.secret_access_key,
        config=Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            s3={"addressing_style": "virtual" if place.is_virtual_hosted else "path"},
        ),
    )
    prefix = f"{place.prefix}/" if place.prefix else ""
    ended, refusals = 0, list[str]()
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=place.bucket, Prefix=prefix
        )
        for page in pages:
            for upload in page.get("Uploads", []):
                is_ours = _OURS.fullmatch(upload["Key"].removeprefix(prefix)) is not None
                if not is_ours or upload["Initiated"].timestamp() >= moment:
                    continue
                try:
                    client.abort_multipart_upload(
                        Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    ended += 1
                except client.exceptions.NoSuchUpload:
                    pass  # another node was faster
                except ClientError as error:
                    refusals.append(_code_of(error.response))
    except ClientError as error:
        message = "the object store refused to list multipart uploads"
        raise StorageFailed(message, code=_code_of(error.response)) from error
    except BotoCoreError as error:
        raise Unavailable("the registry's object store does not answer; try again") from error
    if refusals:
        log.warning("multipart_uploads.left", count=len(refusals), code=refusals[0])
    return ended


def _code_of(response: Mapping[str, Any]) -> str:
    return str(response.get("Error", {}).get("Code"))
