"""Which hosts are echoed, which name an organisation, and whose word counts."""

import tracemalloc
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.oci.routes import ROUTES
from entrepot.web.hosts import Hosts
from entrepot.web.routing import Router
from tests.web.requests import request_with

PUBLIC = Hosts(public_url="https://registry.example", listen="0.0.0.0:5000", is_tls=False)
LOCAL = Hosts(public_url=None, listen="10.1.2.3:5000", is_tls=False)
PROXIED = Hosts(
    public_url=None,
    listen="10.1.2.3:5000",
    is_tls=False,
    trusted_proxies=(ip_network("10.9.0.0/16"), ip_network("fd00::/8")),
)


def asked(host, *headers, client=("127.0.0.1", 9)):
    return request_with(("Host", host), *headers, client=client)


@pytest.mark.parametrize(
    ("host", "label", "service"),
    [
        ("registry.example", None, "registry.example"),
        ("Registry.Example:443", None, "registry.example:443"),
        ("acme.registry.example", "acme", "acme.registry.example"),
        ("ACME.registry.example:8443", "acme", "acme.registry.example:8443"),
        ("a.b.registry.example", None, "registry.example"),
        ("evilregistry.example", None, "registry.example"),
        ("registry.example.evil.test", None, "registry.example"),
        ("evil.test", None, "registry.example"),
        ("localhost:5000", None, "localhost:5000"),
        ("127.0.0.1:5000", None, "127.0.0.1:5000"),
        ("[::1]:5000", None, "[::1]:5000"),
        ("10.0.0.1", None, "registry.example"),
        ("", None, "registry.example"),
    ],
)
def test_a_host_is_echoed_only_when_it_is_ours(host, label, service):
    assert PUBLIC.names(asked(host)) == (label, service)


@pytest.mark.parametrize(
    ("host", "service"),
    [("10.1.2.3:5000", "10.1.2.3:5000"), ("evil.test", "10.1.2.3:5000"), ("::1", "10.1.2.3:5000")],
)
def test_without_a_public_address_the_listen_address_stands(host, service):
    assert LOCAL.names(asked(host)) == (None, service)


@pytest.mark.parametrize(
    "host",
    [
        "localhost:5000@evil.example",
        "localhost:5000/evil",
        'localhost:"',
        'a".registry.example',
        "\xe9.registry.example",
        "registry.example:5000,x",
        "127.0.0.1:",
        "[::1]x",
        "a" * 300 + ".registry.example",
    ],
)
def test_a_host_that_is_none_is_not_repeated(host):
    assert PUBLIC.origin(asked(host)) == "https://registry.example"
    assert PUBLIC.names(asked(host)) == (None, "registry.example")


@given(st.text("aceimprstvxlg.:[]@/\\-", max_size=40) | st.text(max_size=20))
def test_no_host_header_puts_words_into_our_mouth(host):
    sent = request_with()
    sent.scope["headers"] = [(b"host", host.encode("utf-8"))]

    request = type(sent)(sent.scope, sent._receive)
    label, service = PUBLIC.names(request)

    name = service.removesuffix("." + service.rpartition(".")[2])
    assert name is not None
    bare = service.lstrip("[").partition("]")[0].partition(":")[0]
    assert bare == "registry.example" or bare.endswith(".registry.example") or label is None


@pytest.mark.parametrize(
    ("client", "counts"),
    [
        (("10.9.1.1", 1), True),
        (("fd00::7", 1), True),
        (("10.8.1.1", 1), False),
        (("127.0.0.1", 1), False),
        (("::ffff:10.9.1.1", 1), False),
        (("not an address", 0), False),
        (None, False),
    ],
)
def test_forwarded_headers_count_from_trusted_proxies_alone(client, counts):
    request = asked(
        "evil.test",
        ("X-Forwarded-Host", "localhost:7000"),
        ("X-Forwarded-Proto", "https"),
        client=client,
    )

    expected = "https://localhost:7000" if counts else "http://10.1.2.3:5000"
    assert PROXIED.origin(request) == expected
    assert PROXIED.is_from_proxy(request) == counts


@pytest.mark.parametrize("scheme", ["javascript", "HTTPS", "https,http", ""])
def test_an_odd_forwarded_scheme_is_not_taken(scheme):
    request = asked("localhost", ("X-Forwarded-Proto", scheme), client=("10.9.1.1", 1))

    assert PROXIED.origin(request) == "http://localhost"


def asked_through(*forwarded, client="10.9.1.1"):
    return request_with(*(("X-Forwarded-For", line) for line in forwarded), client=(client, 9))


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ([], "10.9.1.1"),
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        (["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.9.2.2"], "192.0.2.1"),
        (["203.0.113.9, 192.0.2.1", "10.9.2.2,10.9.3.3"], "192.0.2.1"),
        (["192.0.2.1\t,\t fd00::5 "], "192.0.2.1"),
        (["10.9.4.4, 10.9.2.2"], "10.9.4.4"),
        (["192.0.2.1, unknown"], "10.9.1.1"),
        (["192.0.2.1, unknown, 10.9.2.2"], "10.9.2.2"),
        (["192.0.2.1,"], "10.9.1.1"),
        ([""], "10.9.1.1"),
        (["192.0.2.1, 192.0.2.256"], "10.9.1.1"),
        (["192.0.2.1, 10.9.2.2 10.9.3.3"], "10.9.1.1"),
        (["\u00b2"], "10.9.1.1"),
    ],
)
def test_behind_proxies_the_last_address_that_is_none_of_them_counts(forwarded, address):
    assert PROXIED.client_address(asked_through(*forwarded)) == address


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("10.8.1.1", "10.8.1.1"),
        ("/run/socket", "/run/socket"),
    ],
)
def test_nobody_but_a_trusted_proxy_can_name_another_address(client, address):
    request = asked_through("203.0.113.9", client=client)

    assert PROXIED.client_address(request) == address
    assert LOCAL.client_address(request) == address


def test_a_caller_without_an_address_has_none():
    assert PROXIED.client_address(request_with(client=None)) == ""


@given(st.lists(st.text("0123456789abcdef.:,[]% \t-", max_size=60), max_size=4))
def test_whatever_stands_before_the_last_hop_changes_nothing(lines):
    request = asked_through(*lines, "192.0.2.1, 10.9.2.2")

    assert PROXIED.client_address(request) == "192.0.2.1"


def test_the_public_scheme_is_that_of_the_public_address():
    assert PUBLIC.origin(asked("acme.registry.example")) == "https://acme.registry.example"
    assert PUBLIC.origin(asked("localhost:5000")) == "http://localhost:5000"


def test_the_memory_of_hosts_is_bounded():
    hosts = Hosts(public_url=None, listen="127.0.0.1:1", is_tls=False)
    for number in range(10_500):
        hosts.names(asked(f"h{number}.test"))

    assert len(hosts._known) <= 10_000


def test_long_hosts_and_paths_are_not_remembered():
    router = Router(ROUTES)
    tracemalloc.start()
    try:
        for number in range(2_000):
            PUBLIC.names(asked(f"{number}{'x' * 30_000}"))
            router.find(f"/v2/{'x' * 30_000}{number}/manifests/v1")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 4_000_000
