"""Where the bytes are, as settings."""

import pytest

from entrepot.config import load, to_environment
from entrepot.config.tree import Settings
from entrepot.model.errors import SettingsInvalid

KEYS = {"ACCESS_KEY_ID": "AKEXAMPLE", "SECRET_ACCESS_KEY": "hunter2"}


def settings(**blobs: str) -> Settings:
    return load(environment={f"ENTREPOT_BLOBS__{name}": value for name, value in blobs.items()})


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://images", ("s3", "images", "")),
        ("s3://images/", ("s3", "images", "")),
        ("s3://images/registry/eu-1/", ("s3", "images", "registry/eu-1")),
        ("gs://my.images/a", ("gs", "my.images", "a")),
        ("az://images/a", ("az", "images", "a")),
    ],
)
def test_an_object_store_has_a_bucket_and_perhaps_a_prefix(url, bucket):
    blobs = settings(URL=url).blobs

    assert blobs.is_objects
    assert blobs.bucket == bucket


def test_keys_survive_the_way_to_a_worker_and_are_not_shown():
    there = settings(URL="s3://images", ENDPOINT="http://127.0.0.1:9000/", REGION="auto", **KEYS)

    assert load(environment=to_environment(there)) == there
    assert there.blobs.endpoint == "http://127.0.0.1:9000"
    assert "hunter2" not in repr(there)


@pytest.mark.parametrize(
    ("blobs", "sentence"),
    [
        ({"URL": "s3://images", "ACCESS_KEY_ID": "AKEXAMPLE"}, "go together"),
        ({"URL": "gs://images", **KEYS}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ({"ENDPOINT": "https://s3.example.com"}, "for an object store"),
        ({"URL": "file:///srv/blobs", "REGION": "eu-west-1"}, "for an object store"),
    ],
)
def test_what_does_not_go_together_is_refused(blobs, sentence):
    with pytest.raises(SettingsInvalid, match=sentence):
        settings(**blobs)


def test_a_redirect_to_a_store_below_the_registrys_name_is_refused():
    environment = {
        "ENTREPOT_PUBLIC_URL": "https://registry.example.com",
        "ENTREPOT_BLOBS__URL": "s3://images",
        "ENTREPOT_BLOBS__ENDPOINT": "https://s3.registry.example.com",
        "ENTREPOT_DELIVERY__MODE": "redirect",
    }

    with pytest.raises(SettingsInvalid, match="name of its own"):
        load(environment=environment)
