"""What the doctor says of the certificate that a server shows."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from entrepot.cli.doctor import certificates
from entrepot.config import load

NOW = datetime.now(UTC)


class Site:
    """Files with a certificate for some names, and its key."""

    def __init__(self, folder):
        self.cert_file, self.key_file = folder / "chain.pem", folder / "key.pem"
        self.authority = trustme.CA()

    def issue(self, *names, authority=None, ends=NOW + timedelta(days=90)):
        issued = (authority or self.authority).issue_cert(*names, not_after=ends)
        self.key_file.write_bytes(issued.private_key_pem.bytes())
        self.cert_file.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return issued

    def examine(self, public_url="", now=NOW):
        environment = {
            "ENTREPOT_TLS__CERT_FILE": str(self.cert_file),
            "ENTREPOT_TLS__KEY_FILE": str(self.key_file),
            "ENTREPOT_PUBLIC_URL": public_url,
        }
        return list(certificates.examine(load(environment=environment), now))

    def faults(self, level="error", **options):
        return [
            f"{each.found}; {each.remedy}"
            for each in self.examine(**options)
            if each.level == level
        ]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_without_a_certificate_nothing_is_said():
    assert list(certificates.examine(load(environment={}), NOW)) == []


@pytest.mark.parametrize(
    ("names", "public_url"),
    [
        (["registry.example.com"], "https://registry.example.com"),
        (["registry.example.com"], ""),
        (["*.example.com"], "https://Registry.example.com:5000"),
        (["10.0.0.5"], "https://10.0.0.5:5000"),
        (["::1"], "https://[::1]:5000"),
    ],
)
def test_one_that_covers_the_public_address_is_well(site, names, public_url):
    site.issue(*names)

    (found,) = site.examine(public_url)

    assert found.level == "ok"
    assert "days left" in found.found


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["other.example.com"], "registry.example.com"),
        (["*.example.com"], "example.com"),
        (["*.example.com"], "a.registry.example.com"),
        (["registry.example.com"], "10.0.0.5"),
    ],
)
def test_one_for_other_names_is_an_error(site, names, host):
    site.issue(*names)

    (fault,) = site.faults(public_url=f"https://{host}")

    assert f"it covers {names[0]}, not {host}" in fault


def test_a_chain_with_its_intermediate_is_well_and_in_another_order_is_not(site):
    site.issue("a.example", authority=site.authority.create_child_ca())
    assert [each.level for each in site.examine()] == ["ok"]

    pems = site.cert_file.read_bytes().split(b"-----BEGIN")[1:]
    stranger = trustme.CA().create_child_ca().issue_cert("b.example").cert_chain_pems[-1].bytes()
    site.cert_file.write_bytes(b"-----BEGIN" + pems[0] + stranger)

    (fault,) = site.faults()
    assert "certificate 1" in fault
    assert "was not signed by the one behind it" in fault


def test_a_key_of_another_certificate_is_an_error(site):
    other = site.issue("a.example").private_key_pem.bytes()
    site.issue("a.example")
    site.key_file.write_bytes(other)

    (fault,) = site.faults()

    assert "is not that of the first certificate" in fault


def test_a_key_with_a_passphrase_is_an_error_that_says_how_to_unlock_it(site):
    key = load_pem_private_key(site.issue("a.example").private_key_pem.bytes(), None)
    site.key_file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    )

    (fault,) = site.faults()

    assert "openssl pkey -in" in fault


@pytest.mark.parametrize("what", ["cert_file", "key_file"])
@pytest.mark.parametrize("text", [b"", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_files_without_certificate_or_key_are_errors(site, what, text):
    site.issue("a.example")
    getattr(site, what).write_bytes(text)

    assert len(site.faults()) == 1


@pytest.mark.parametrize("what", ["cert_file", "key_file"])
def test_files_that_are_not_there_are_errors(site, what):
    site.issue("a.example")
    getattr(site, what).unlink()

    (fault,) = site.faults()

    assert "cannot be read (No such file or directory)" in fault


def test_the_end_of_one_is_a_warning_before_it_and_an_error_after_it(site):
    site.issue("a.example", ends=NOW + timedelta(days=30))

    assert [each.level for each in site.examine()] == ["ok"]
    (soon,) = site.faults("warning", now=NOW + timedelta(days=20))
    assert "ends in 9 days" in soon or "ends in 10 days" in soon
    (over,) = site.faults(now=NOW + timedelta(days=31))
    assert "renew it" in over


def test_one_that_does_not_count_yet_is_an_error(site):
    site.issue("a.example")

    (fault,) = site.faults(now=datetime(1999, 1, 1, tzinfo=UTC))

    assert "not yet" in fault
