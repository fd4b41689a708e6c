"""An object store that is not as it has to be: the start refuses, and the doctor says the same."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.support import s3_faults
from tests.support.eventually import eventually
from tests.support.forked_command import run_forked
from tests.support.s3_wire import Head
from tests.support.server import running_server

TURNED_CLOCK = Path(s3_faults.__file__).with_name("turned_clock.py")

pytestmark = pytest.mark.slow  # a real S3 server, and servers of its own


def run(data, settings, *words):
    ours = {"ENTREPOT_DATA": str(data), "ENTREPOT_WORKERS": "1", "ENTREPOT_PORT": "0"}
    done = run_forked(*words, environment=ours | settings)
    assert "Traceback" not in done.stderr
    return done


def refused(data, settings):
    """What `entrepot serve` says, which the doctor says too."""
    started = run(data, settings, "serve")
    assert started.returncode == 1
    assert re.fullmatch(r"Error: [^\n]+\n", started.stderr), started.stderr
    assert not _secret(settings) or _secret(settings) not in started.stderr
    remedy = started.stderr.rpartition("; ")[2].strip()
    examined = examine(data, settings)
    (fault,) = [each for each in examined if each["part"] == "store"]
    assert (fault["level"], fault["remedy"]) == ("error", remedy)
    return started.stderr


def examine(data, settings):
    done = run(data, settings, "admin", "doctor", "--json")
    assert not _secret(settings) or _secret(settings) not in done.stdout + done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert all(each["remedy"] for each in findings if each["level"] != "ok"), findings
    return findings


def _secret(settings):
    return settings.get("ENTREPOT_BLOBS__SECRET_ACCESS_KEY")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def test_one_that_is_as_it_has_to_be_is_served_and_well(bucket, data):
    settings = bucket.settings()
    with running_server(data, environment=settings):
        found = examine(data, settings)
        left = bucket.objects()

    parts = {each["part"]: each for each in found}
    assert not [each for each in found if each["level"] == "error"], found
    assert "gave objects back as they were written" in parts["store"]["found"]
    assert parts["clock"]["found"] == "the clock of the object store tells our time"
    assert not [name for name in left if "self-test" in name]


def test_a_wrong_secret_is_named(bucket, data):
    wrong = {**bucket.settings(), "ENTREPOT_BLOBS__SECRET_ACCESS_KEY": "x" * 40}

    assert "the secret does not belong to the access key" in refused(data, wrong)


def test_an_unknown_key_is_named(bucket, data):
    wrong = {**bucket.settings(), "ENTREPOT_BLOBS__ACCESS_KEY_ID": "NOBODYKNOWSTHIS"}

    assert "it does not know the access key" in refused(data, wrong)


def test_a_bucket_that_is_not_there_is_named(bucket, data):
    missing = replace(bucket, name=f"{bucket.name}-missing")

    said = refused(data, missing.settings())

    assert missing.name in said
    assert "there is no such bucket: make it" in said


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {
            "ENTREPOT_BLOBS__ACCESS_KEY_ID": "account",
            "ENTREPOT_BLOBS__SECRET_ACCESS_KEY": "no key: *!",
        },
    ],
)
def test_an_account_that_is_missing_or_has_no_such_key_is_named(data, keys):
    said = refused(data, {"ENTREPOT_BLOBS__URL": "az://container", **keys})

    assert "the object store az://container" in said


def test_a_machine_without_an_identity_needs_keys(bucket, s3_proxy, data):
    settings = bucket.behind(s3_proxy.origin).settings()
    del settings["ENTREPOT_BLOBS__ACCESS_KEY_ID"], settings["ENTREPOT_BLOBS__SECRET_ACCESS_KEY"]
    forbidden = Head("HTTP/1.1 403 Forbidden", (("Content-Length", "0"),)), b""
    s3_proxy.on("*", s3_faults.Fault("no identity", instead=forbidden), times=None)
    away = {"AWS_METADATA_ENDPOINT": f"{s3_proxy.origin}/169.254.169.254"}

    said = refused(data, {**settings, **away})

    assert "there are no credentials: set blobs.access_key_id" in said


def test_a_clock_that_is_wrong_is_named(bucket, s3_proxy, data):
    s3_proxy.on("*", s3_faults.refused(403, "RequestTimeTooSkewed"), times=None)

    said = refused(data, bucket.behind(s3_proxy.origin).settings())

    assert "this machine's clock is wrong" in said


def test_a_store_that_cannot_be_reached_is_named(bucket, data, unused_tcp_port):
    away = bucket.behind(f"http://127.0.0.1:{unused_tcp_port}")

    said = refused(data, away.settings())

    assert f"127.0.0.1:{unused_tcp_port}" in said
    assert "it cannot be reached" in said


def test_the_doctor_compares_clocks(bucket, data, tmp_path):
    (tmp_path / "turned").write_text("300")
    ours = {"ENTREPOT_DATA": str(data), "TURNED_CLOCK": str(tmp_path / "turned")}

    done = subprocess.run(
        [sys.executable, TURNED_CLOCK, "entrepot", "admin", "doctor", "--json"],
        env=os.environ | bucket.settings() | ours,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    found = json.loads(done.stdout)["findings"]
    (clock,) = [each for each in found if each["part"] == "clock"]
    assert clock["level"] == "error"
    assert re.fullmatch(
        r"the clock of the object store is (29\d|300)\.\d s behind ours", clock["found"]
    )


def test_a_store_that_goes_away_under_a_server_is_told_by_readyz(bucket, s3_proxy, data):
    def ready():
        answer = httpx.get(f"{server.url}/readyz", timeout=30)
        return answer.status_code, answer.json().get("reason", "")

    with running_server(data, environment=bucket.behind(s3_proxy.origin).settings()) as server:
        assert ready() == (200, "")

        s3_proxy.stop()
        eventually(lambda: ready()[0] == 503)
        assert ready()[1].startswith("the store ")

        s3_proxy.start()
        eventually(lambda: ready() == (200, ""), within=90)


def test_a_bucket_that_is_taken_away_is_told_by_readyz(bucket, data):
    with running_server(data, environment=bucket.settings()) as server:
        for name in bucket.objects():
            bucket.client().delete_object(Bucket=bucket.name, Key=name)
        bucket.client().delete_bucket(Bucket=bucket.name)

        def is_told() -> bool:
            said: str = httpx.get(f"{server.url}/readyz", timeout=30).json().get("reason", "")
            return said.startswith("the store does not answer (404 NoSuchBucket")

        eventually(is_told)
