"""What tests of several folders share."""

import asyncio
import secrets
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from entrepot.blobs import objects_faults, objects_place
from entrepot.db.migrate import migrate
from tests.support.ceph import running_ceph
from tests.support.postgres import new_cluster, new_database, running_postgres
from tests.support.s3_proxy import S3Proxy


@pytest.fixture(autouse=True)
def logged_as_before():
    """A command that runs in this process says how its own log is; the next test's is another."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        for name, module in list(sys.modules.items()):
            if name.startswith("entrepot.") and hasattr(module, "log"):
                # What a logger was on its first use it would stay.
                vars(module.log).pop("bind", None)


@pytest.fixture(scope="session")
def postgres_server():
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server):
    with new_database(postgres_server) as url:
        asyncio.run(migrate(url))
        yield url.rpartition("/")[2]


@pytest.fixture(scope="session")
def stopped_postgres():
    """A server with the schema in its database that does not run: for others to begin as."""
    with new_cluster() as cluster:
        cluster.create()
        cluster.start()
        asyncio.run(migrate(cluster.url))
        cluster.stop()
        yield cluster


@pytest.fixture
def postgres_url(postgres_server, postgres_template):
    """A database of the test's own, with the schema in it."""
    with new_database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "entrepot.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_path(sqlite_template, tmp_path):
    """A database of the test's own, with the schema in it."""
    return Path(shutil.copy(sqlite_template, tmp_path / "entrepot.db"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    """A database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def object_server():
    """A real S3 server; tests that use it are slow, in the sense of their marks."""
    with running_ceph() as server:
        yield server


@pytest.fixture
def bucket(object_server):
    """A bucket of the test's own."""
    return object_server.new_bucket()


@pytest.fixture
def quick_retries(monkeypatch):
    """Object stores of this process are asked again as often as ever, and much sooner."""
    again = {"init_backoff": timedelta(milliseconds=20)}
    retry = objects_place._RETRY | {"backoff": objects_place._RETRY["backoff"] | again}
    monkeypatch.setattr(objects_place, "_RETRY", retry)
    monkeypatch.setattr(objects_faults, "_FIRST_PAUSE", 0.02)


@pytest.fixture
def s3_proxy(object_server):
    """What stands between a test and that server: `bucket.behind(s3_proxy.origin)`."""
    with S3Proxy(object_server.endpoint).running() as proxy:
        yield proxy


@pytest.fixture
def name():
    """A repository name of the test's own."""
    return f"test/{secrets.token_hex(6)}"
