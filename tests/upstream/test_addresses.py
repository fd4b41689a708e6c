"""T16: which addresses are reached, whatever they are called."""

import asyncio
import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from entrepot.model.errors import FieldInvalid, UpstreamDown, UpstreamSlow, UpstreamUnsafe
from entrepot.upstream.guard import Guard, GuardedResolver
from entrepot.upstream.origins import Origin
from entrepot.upstream.outbound import Outbound

INSIDE = (
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "ff02::1",
)
OUTSIDE = ("1.1.1.1", "8.8.8.8", "99.255.255.255", "172.32.0.1", "2600::1", "2a00:1450:4001::1")


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_inside_is_not_reached(address):
    assert not Guard().allows(address)


@pytest.mark.parametrize("address", [*OUTSIDE, "::ffff:8.8.8.8"])
def test_what_is_public_is_reached(address):
    assert Guard().allows(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3"])
def test_what_is_no_numeric_address_is_not_one_that_may_be_reached(text):
    assert not Guard().allows(text)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_however_it_is_wrapped(address: IPv4Address):
    guard = Guard()

    assert guard.allows(f"::ffff:{address}") == guard.allows(str(address))
    assert not guard.allows(f"64:ff9b::{address}")
    assert not guard.allows(str(IPv6Address((0x2002 << 112) | (int(address) << 80))))


@given(st.ip_addresses(v=4))
def test_nat64_is_reached_only_when_allowed_and_only_for_what_is_public(address: IPv4Address):
    guard = Guard([ip_network("64:ff9b::/96")])

    assert guard.allows(f"64:ff9b::{address}") == guard.allows(str(address))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_is_never_reached(address):
    if not address.is_global or address.is_multicast:
        assert not Guard().allows(str(address))


def test_the_operator_can_allow_a_network_and_no_more():
    guard = Guard([ip_network("10.1.2.0/24"), ip_network("fd00::/16")])

    assert guard.allows("10.1.2.3")
    assert guard.allows("::ffff:10.1.2.3")
    assert guard.allows("fd00::5")
    assert not guard.allows("10.1.3.3")
    assert not guard.allows("fd01::5")


@pytest.mark.parametrize(
    "text",
    [
        "http://2130706433",
        "http://0x7f.1",
        "http://0177.0.0.1",
        "http://127.1",
        "http://1.2.3.4.",
        "http://[fe80::1%25eth0]",
        "http://user@example.com",
        "http://user:secret@example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://exa mple.com",
        "http://example.com:0",
        "http://example.com:99999",
        "http://",
        "example.com",
        "http://example.com\\@evil.example",
        "http://a..b",
        "http://ex%61mple.com",
        "http://[::ffff:1.2.3.4",
    ],
)
def test_an_address_in_an_unusual_form_is_no_origin(text):
    with pytest.raises(FieldInvalid) as raised:
        Origin.parse(text)

    assert raised.value.values["field"] == "url"


@pytest.mark.parametrize(
    "text", ["https://ghcr.io/org/app", "https://ghcr.io/?a=b", "https://ghcr.io/#x"]
)
def test_an_upstream_has_no_path(text):
    with pytest.raises(FieldInvalid, match="the path belongs to the repository"):
        Origin.parse(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Registry.Example.com:443/", "https://registry.example.com"),
        ("https://ghcr.io/v2/", "https://ghcr.io"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://my_registry.internal", "https://my_registry.internal"),
    ],
)
def test_an_origin_has_one_spelling(text, origin):
    assert str(Origin.parse(text)) == origin
    assert Origin.parse(origin) == Origin.parse(text)


async def ask(client: Outbound, url: str) -> int:
    async with client.ask("GET", URL(url, encoded=True), called="it") as answer:
        return answer.status


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1"],
)
async def test_nobody_on_this_machine_is_called_by_any_name(client_of, upstream, host):
    client = client_of()

    with pytest.raises((UpstreamUnsafe, UpstreamDown)) as raised:
        await ask(client, f"http://{host}:{upstream.port}/v2/")

    assert upstream.log.entries == []
    assert "127" not in raised.value.message
    assert isinstance(raised.value, UpstreamUnsafe)
    assert "ENTREPOT_OUTBOUND__ALLOW" in raised.value.message


@pytest.fixture
def flipping_names(monkeypatch):
    """A DNS whose answer changes each time it is asked."""
    asked = []
    answers = {"rebound.example": [["8.8.8.8"], ["127.0.0.1"]], "mixed.example": []}
    true_lookup = socket.getaddrinfo

    def lookup(host, port, *arguments, **named):
        # As bytes too: clients differ in what they pass.
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return true_lookup(host, port, *arguments, **named)
        asked.append(name)
        found = answers[name]
        addresses = found[min(len(asked), len(found)) - 1] if found else ["10.9.9.9", "127.0.0.1"]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


async def test_the_checked_address_is_the_one_that_is_connected_to(
    client_of, upstream, flipping_names, monkeypatch
):
    connected = []

    def witness(_self, address):
        connected.append(address[4][0])
        raise OSError("nobody there")

    monkeypatch.setattr(Guard, "open_socket", witness)
    first, second = client_of(), client_of()

    with pytest.raises(UpstreamDown):
        await ask(first, f"http://rebound.example:{upstream.port}/v2/")
    with pytest.raises(UpstreamUnsafe):  # the second answer is judged before it is used
        await ask(second, f"http://rebound.example:{upstream.port}/v2/")

    assert flipping_names == ["rebound.example"] * 2
    assert connected == ["8.8.8.8"]
    assert upstream.log.entries == []


async def test_a_name_with_one_good_address_is_reached_there_alone(
    client_of, upstream, flipping_names
):
    client = client_of(allow=[ip_network("127.0.0.0/8")])

    assert await ask(client, f"http://mixed.example:{upstream.port}/v2/") == 200


@pytest.fixture
def silent_names(monkeypatch):
    """A DNS that never answers for names in `silent.example`, until the test is over."""
    over = threading.Event()
    true_lookup = socket.getaddrinfo

    def lookup(host, *arguments, **named):
        name = host.decode() if isinstance(host, bytes) else host
        if name.endswith(".silent.example"):
            over.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return true_lookup(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield
    over.set()


async def test_names_that_nobody_answers_for_hold_up_no_other_threads(impatient, silent_names):
    """The threads of the event loop read the files that everybody pulls."""
    asking = [
        asyncio.create_task(ask(impatient, f"http://{number}.silent.example/v2/"))
        for number in range(33)
    ]
    await asyncio.wait(asking)

    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "read") == "read"

    assert {type(task.exception()) for task in asking} <= {UpstreamSlow}


async def test_the_last_check_stands_where_the_socket_is_made():
    guard = Guard()

    with pytest.raises(OSError, match="must not be reached"):
        guard.open_socket(
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
        )


async def test_a_resolver_without_a_good_address_has_none():
    with pytest.raises(OSError, match="no address"):
        await GuardedResolver(Guard()).resolve("localhost", 80)


async def test_behind_a_proxy_addresses_are_judged_as_far_as_they_are_known(client_of, upstream):
    client = client_of(proxy=upstream.origin)

    for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]"):
        with pytest.raises(UpstreamUnsafe):
            await ask(client, f"http://{host}/v2/")
    assert upstream.log.entries == []
    assert await ask(client, "http://known-to-the-proxy.invalid/v2/") == 200
    assert len(upstream.log.entries) == 1
