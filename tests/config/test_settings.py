import pytest

from entrepot.config import load, to_environment
from entrepot.model.errors import SettingsInvalid

KEY = "0123456789abcdef" * 4


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsInvalid) as refused:
        load(environment=environment)
    return refused.value.message


@pytest.fixture
def file(tmp_path):
    return tmp_path / "entrepot.toml"


def test_everything_has_a_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    settings = load(environment={})

    assert (settings.host, settings.port) == ("127.0.0.1", 5000)
    assert settings.database.sqlite_file == tmp_path / "data/entrepot.db"
    assert settings.blobs.folder == tmp_path / "data/blobs"
    assert settings.warnings() == []


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(file):
    file.write_text('workers = 3\n[log]\nlevel = "debug"\nrequests = true\n')

    settings = load(environment={"ENTREPOT_CONFIG": str(file), "ENTREPOT_LOG__LEVEL": "error"})

    assert (settings.workers, settings.log.level, settings.log.requests) == (3, "error", True)


def test_an_empty_variable_is_an_unset_one():
    assert load(environment={"ENTREPOT_PORT": "", "ENTREPOT_PUBLIC_URL": ""}).port == 5000


def test_every_setting_survives_the_way_to_a_worker():
    given = {
        "ENTREPOT_SECRET_KEY": KEY,
        "ENTREPOT_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        "ENTREPOT_BLOBS__LOW_WATER_BYTES": "512MB",
        "ENTREPOT_DATABASE__URL": "postgresql://u:p@h/db",
        "ENTREPOT_LOG__REQUESTS": "yes",
    }
    settings = load(environment=given)

    assert load(environment=to_environment(settings)) == settings


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 1 << 20), ("512MB", 512 * 10**6), ("1GiB", 1 << 30), ("2 B", 2)]
)
def test_sizes_are_numbers_or_numbers_with_a_unit(text, size):
    assert load(environment={"ENTREPOT_LIMITS__MANIFEST_BYTES": text}).limits.manifest_bytes == size


def test_the_variables_of_the_client_do_not_stop_a_server():
    load(environment={"ENTREPOT_SERVER": "x", "ENTREPOT_TOKEN": "x", "ENTREPOT_ORG": "x"})


def test_an_unknown_variable_is_refused_with_a_suggestion():
    assert refusal(ENTREPOT_DATABASE__POOLSIZE="3") == (
        "unknown setting ENTREPOT_DATABASE__POOLSIZE in the environment;"
        " did you mean ENTREPOT_DATABASE__POOL_SIZE?"
    )


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[limits]\nlayer = 3", "unknown setting limits.layer in {}; did you mean limits.layers?"),
        ("[port]\nx = 1", "unknown setting port.x in {}"),
        ('database = "x"', "unknown setting database in {}"),
        ("port = ", "{} is not TOML"),
    ],
)
def test_an_unknown_key_in_the_file_is_refused_with_its_path(file, toml, said):
    file.write_text(toml)

    assert refusal(ENTREPOT_CONFIG=str(file)).startswith(said.format(file))


def test_a_file_that_is_not_there_is_refused(file):
    assert f"cannot read the settings file {file}" in refusal(ENTREPOT_CONFIG=str(file))


def test_names_of_the_client_are_no_settings():
    load(environment={"ENTREPOT_SERVER": "https://x", "ENTREPOT_TOKEN": "y"})


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("port", "PORT", "http"),
        ("port", "PORT", "65536"),
        ("workers", "WORKERS", "0"),
        ("anonymous", "ANONYMOUS", "delete"),
        ("trusted_proxies", "TRUSTED_PROXIES", "10.0.0.0/8,nginx"),
        ("public_url", "PUBLIC_URL", "registry.example.com"),
        ("public_url", "PUBLIC_URL", "https://example.com/registry"),
        ("public_url", "PUBLIC_URL", "https://user@example.com"),
        ("secret_key", "SECRET_KEY", "secret"),
        ("secret_key", "SECRET_KEY", "ab" * 32),
        ("database.url", "DATABASE__URL", "mysql://x/y"),
        ("blobs.url", "BLOBS__URL", "ftp://bucket"),
        ("blobs.url", "BLOBS__URL", "s3://"),
        ("blobs.url", "BLOBS__URL", "s3://bucket/../other"),
        ("blobs.url", "BLOBS__URL", "s3://bucket/a b"),
        ("blobs.url", "BLOBS__URL", "s3://key:hunter2@bucket"),
        ("blobs.endpoint", "BLOBS__ENDPOINT", "s3.example.com"),
        ("blobs.endpoint", "BLOBS__ENDPOINT", "https://key:hunter2@s3.example.com"),
        ("delivery.endpoint", "DELIVERY__ENDPOINT", "https://blobs.example.net?a=b"),
        ("delivery.endpoint", "DELIVERY__ENDPOINT", "https://key:hunter2@blobs.example.net"),
        ("blobs.low_water_bytes", "BLOBS__LOW_WATER_BYTES", "5 apples"),
        ("log.level", "LOG__LEVEL", "loud"),
        ("limits.layers", "LIMITS__LAYERS", "0"),
        ("tokens.bearer_seconds", "TOKENS__BEARER_SECONDS", "86400"),
    ],
)
def test_a_bad_value_names_its_path_and_its_variable(path, name, value):
    assert refusal(**{f"ENTREPOT_{name}": value}).startswith(f"{path} (ENTREPOT_{name}): ")


@pytest.mark.parametrize("name", ["ENTREPOT_SECRET_KEY", "ENTREPOT_DATABASE__URL"])
def test_a_bad_secret_is_not_repeated(name):
    assert "hunter2" not in refusal(**{name: "hunter2"})


def test_secrets_are_not_shown():
    settings = load(
        environment={
            "ENTREPOT_SECRET_KEY": KEY,
            "ENTREPOT_DATABASE__URL": "postgresql://u:hunter2@h/db",
        }
    )

    assert KEY not in repr(settings)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("reach", "said"),
    [
        ({"ENTREPOT_HOST": "0.0.0.0"}, "host 0.0.0.0"),
        ({"ENTREPOT_HOST": "registry"}, "host registry"),
        ({"ENTREPOT_PUBLIC_URL": "https://r.example.com"}, "public_url https://r.example.com"),
        ({"ENTREPOT_TRUSTED_PROXIES": "10.0.0.0/8"}, "trusted proxy 10.0.0.0/8"),
        ({"ENTREPOT_TRUSTED_PROXIES": "::/0"}, "trusted proxy ::/0"),
    ],
)
def test_open_access_is_for_this_machine_unless_forced(reach, said):
    assert said in refusal(ENTREPOT_ANONYMOUS="push", **reach)

    forced = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_ANONYMOUS_FORCE": "true"}
    assert load(environment=forced | reach).anonymous == "push"


def test_open_access_on_loopback_needs_no_force():
    local = {
        "ENTREPOT_ANONYMOUS": "pull",
        "ENTREPOT_HOST": "::1",
        "ENTREPOT_PUBLIC_URL": "http://localhost:5000",
        "ENTREPOT_TRUSTED_PROXIES": "127.0.0.1",
    }

    assert load(environment=local).anonymous == "pull"


def test_a_certificate_without_its_key_is_refused():
    assert "go together" in refusal(ENTREPOT_TLS__CERT_FILE="cert.pem")


def test_plain_http_for_others_is_warned_of():
    settings = load(environment={"ENTREPOT_PUBLIC_URL": "http://registry.example.com"})

    assert "is not https" in settings.warnings()[0]


def test_a_secret_key_given_twice_is_refused():
    assert "not both" in refusal(ENTREPOT_SECRET_KEY=KEY, ENTREPOT_SECRET_KEY_FILE="x")


REDIRECT = {
    "ENTREPOT_BLOBS__URL": "s3://bucket",
    "ENTREPOT_DELIVERY__MODE": "redirect",
    "ENTREPOT_DELIVERY__ENDPOINT": "https://blobs.example.net",
    "ENTREPOT_PUBLIC_URL": "https://registry.example.com",
}


def test_a_redirect_needs_an_object_store():
    assert "needs an object store" in refusal(ENTREPOT_DELIVERY__MODE="redirect")


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://registry.example.com:9000",
        "https://blobs.registry.example.com",
        "https://REGISTRY.example.com/store",
    ],
)
def test_a_store_that_clients_would_send_their_tokens_to_is_refused(endpoint):
    said = refusal(**REDIRECT | {"ENTREPOT_DELIVERY__ENDPOINT": endpoint})

    assert "registry.example.com of public_url or below it" in said


def test_a_store_beside_the_registry_is_fine():
    beside = {"ENTREPOT_DELIVERY__ENDPOINT": "https://blobs.example.com"}

    assert load(environment=REDIRECT | beside).delivery.mode == "redirect"


def test_an_address_ends_a_minute_before_its_object_goes():
    settings = load(environment=REDIRECT | {"ENTREPOT_DELIVERY__URL_SECONDS": "3540"})

    assert settings.delivery.url_seconds == 3_540


def test_an_address_that_outlives_its_object_is_refused():
    said = refusal(**REDIRECT, ENTREPOT_DELIVERY__URL_SECONDS="3541")

    assert "collection.delay_seconds=3600" in said
    assert "delivery.url_seconds=3541" in said


def test_an_endpoint_that_nobody_is_sent_to_is_refused():
    said = refusal(ENTREPOT_DELIVERY__ENDPOINT="https://blobs.example.net")

    assert "is for delivery.mode=redirect" in said
