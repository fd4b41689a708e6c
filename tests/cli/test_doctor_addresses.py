"""What the doctor says of listen address, public address, TLS and proxies."""

import pytest

from entrepot.cli.doctor import addresses
from entrepot.config import load

PUBLIC = "https://registry.example.com"


def examine(**settings):
    environment = {f"ENTREPOT_{name.upper()}": value for name, value in settings.items()}
    return list(addresses.examine(load(environment=environment)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"public_url": "http://localhost:5000"},
        {"public_url": PUBLIC, "trusted_proxies": "127.0.0.1/32"},
        {"public_url": PUBLIC, "host": "0.0.0.0", "trusted_proxies": "10.0.0.0/8"},
        {"public_url": PUBLIC, "host": "0.0.0.0", "tls__cert_file": "/c", "tls__key_file": "/k"},
    ],
)
def test_what_fits_together_is_one_line(settings):
    (found,) = examine(**settings)

    assert found.level == "ok"


@pytest.mark.parametrize(
    ("settings", "level", "remedy"),
    [
        ({"public_url": PUBLIC}, "warning", "ENTREPOT_HOST=0.0.0.0"),
        ({"host": "0.0.0.0"}, "warning", "ENTREPOT_PUBLIC_URL"),
        ({"host": "0.0.0.0"}, "warning", "ENTREPOT_TLS__CERT_FILE"),
        (
            {"host": "0.0.0.0", "public_url": "http://localhost:5000"},
            "warning",
            "ENTREPOT_HOST=127.0.0.1",
        ),
        ({"host": "0.0.0.0", "public_url": PUBLIC}, "warning", "ENTREPOT_TRUSTED_PROXIES"),
        ({"public_url": "http://registry.example.com"}, "warning", "put TLS in front"),
        (
            {
                "host": "0.0.0.0",
                "public_url": "http://registry.example.com",
                "tls__cert_file": "/c",
                "tls__key_file": "/k",
            },
            "error",
            f"ENTREPOT_PUBLIC_URL={PUBLIC}",
        ),
        ({"trusted_proxies": "0.0.0.0/0"}, "error", "10.0.0.5/32"),
        ({"ops__allow": "::/0"}, "warning", "ENTREPOT_OPS__ALLOW"),
        (
            {"anonymous": "push", "anonymous_force": "true"},
            "warning",
            "ENTREPOT_ANONYMOUS_FORCE",
        ),
    ],
)
def test_what_does_not_fit_says_what_to_set(settings, level, remedy):
    found = examine(**settings)

    assert [each for each in found if each.level == level and remedy in each.remedy], found
    assert not [each for each in found if each.level == "ok"]
