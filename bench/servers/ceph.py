"""Ceph's gateway (Debian's) as the object store, put up as the tests put it up."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.scale import GIB
from bench.servers.process import find_program
from tests.support.bucket import Bucket
from tests.support.ceph import running_ceph as running

_DISK_BYTES = 24 * GIB  # two of the largest uploads: the one before goes while the next one comes
_PROGRAMS = {"radosgw": "radosgw", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd"}


@contextmanager
def running_ceph() -> Iterator[Bucket]:
    """Run one until the block ends; give a bucket with nothing in it."""
    for name, package in _PROGRAMS.items():
        find_program(name, package)
    with running(disk_bytes=_DISK_BYTES) as server:
        yield server.new_bucket()


def settings_of(bucket: Bucket) -> dict[str, str]:
    """Entrepot's settings for objects in a bucket, without the prefix of their names."""
    return {name.removeprefix("ENTREPOT_"): value for name, value in bucket.settings().items()}
