"""obstore writing a file to a bucket: `python -m bench.reference_objects FILE BUCKET`.

The environment says where the bucket is. Parts, and how many of them are on their way at once, are
obstore's own defaults. Prints MB/s.
"""

import os
import sys
import time
from pathlib import Path

import obstore
from obstore.store import S3Store

_NAME = "reference"


def write(source: Path, bucket: str) -> float:
    """Return the MB/s of one object, which is gone afterwards."""
    store = S3Store(
        bucket,
        endpoint=os.environ["ENTREPOT_BLOBS__ENDPOINT"],
        region=os.environ["ENTREPOT_BLOBS__REGION"],
        access_key_id=os.environ["ENTREPOT_BLOBS__ACCESS_KEY_ID"],
        secret_access_key=os.environ["ENTREPOT_BLOBS__SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    size = source.stat().st_size
    started = time.perf_counter()
    obstore.put(store, _NAME, source)
    seconds = time.perf_counter() - started
    obstore.delete(store, _NAME)
    return size / 1e6 / seconds


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), sys.argv[2]))
