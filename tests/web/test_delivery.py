"""Which requests are sent to the object store, and which never."""

from ipaddress import ip_network

import pytest

from entrepot.blobs.stored import Stored
from entrepot.model.stored import Segment
from entrepot.web.delivery import Delivery, RedirectRules
from entrepot.web.hosts import Hosts
from tests.web.requests import request_with

SIZE = 1_000_000
STORE = "https://blobs.example.net/bucket/key?X-Amz-Signature=secret"


class Signing:
    """A store that signs one address for everything."""

    def __init__(self, address=STORE):
        self.address = address
        self.signed = []

    def read(self, key, start, stop, size):
        raise AssertionError(key, start, stop, size)  # nothing comes from here

    async def sign(self, key, seconds):
        self.signed.append((key, seconds))
        return self.address


@pytest.fixture
def hosts():
    return Hosts(
        public_url="https://registry.example.com",
        listen="127.0.0.1:5000",
        is_tls=True,
        trusted_proxies=(ip_network("10.0.0.1/32"),),
    )


@pytest.fixture
def delivery(hosts):
    rules = RedirectRules(600, 64 * 1024, (ip_network("192.0.2.0/24"), ip_network("fd00::/8")))
    return Delivery(hosts, rules)


def stored(source=None, *, sizes=(SIZE,)):
    segments, start = [], 0
    for number, size in enumerate(sizes):
        segments.append(Segment(start, size, f"key-{number}"))
        start += size
    return Stored(source or Signing(), segments)


def asking(*headers, client="198.51.100.7"):
    return request_with(("Host", "registry.example.com"), *headers, client=(client, 9))


async def test_a_blob_in_one_object_is_fetched_from_the_store(delivery):
    source = Signing()

    assert await delivery.address(asking(), stored(source)) == STORE
    assert source.signed == [("key-0", 600)]


async def test_nothing_is_signed_where_everything_is_streamed(hosts):
    source = Signing()

    assert await Delivery(hosts, None).address(asking(), stored(source)) is None
    assert source.signed == []


async def test_a_small_blob_comes_from_here(delivery):
    assert await delivery.address(asking(), stored(sizes=(64 * 1024,))) is None
    assert await delivery.address(asking(), stored(sizes=(64 * 1024 + 1,))) == STORE


async def test_a_blob_in_segments_comes_from_here(delivery):
    assert await delivery.address(asking(), stored(sizes=(SIZE, SIZE))) is None


async def test_a_range_is_the_stores_work_and_several_are_ours(delivery):
    assert await delivery.address(asking(("Range", "bytes=5-")), stored()) == STORE
    assert await delivery.address(asking(("Range", "bytes=5-6,9-10")), stored()) is None


@pytest.mark.parametrize("client", ["192.0.2.9", "::ffff:192.0.2.9", "fd00::5"])
async def test_clients_of_a_network_that_is_streamed_to_get_the_bytes_from_here(delivery, client):
    assert await delivery.address(asking(client=client), stored()) is None


async def test_the_network_is_that_of_the_client_behind_a_trusted_proxy(delivery):
    inside = asking(("X-Forwarded-For", "192.0.2.9"), client="10.0.0.1")
    outside = asking(("X-Forwarded-For", "203.0.113.1"), client="10.0.0.1")
    claimed = asking(("X-Forwarded-For", "192.0.2.9"), client="203.0.113.1")

    assert await delivery.address(inside, stored()) is None
    assert await delivery.address(outside, stored()) == STORE
    assert await delivery.address(claimed, stored()) == STORE


@pytest.mark.parametrize(
    ("asked", "store"),
    [
        ("mirror.example.org", "https://mirror.example.org:9000/b/k"),
        ("mirror.example.org:5000", "https://blobs.mirror.example.org/b/k"),
        ("127.0.0.1:5000", "http://127.0.0.1:9000/b/k"),
        ("[::1]:5000", "http://[::1]:9000/b/k"),
    ],
)
async def test_no_client_is_led_to_where_its_token_would_follow(delivery, asked, store):
    request = request_with(("Host", asked))

    assert await delivery.address(request, stored(Signing(store))) is None


@pytest.mark.parametrize(
    ("asked", "store"),
    [
        ("localhost:5000", "http://127.0.0.1:9000/b/k"),
        ("registry.example.com", "https://blobs.example.com/b/k"),
        ("example.com", "https://badexample.com/b/k"),
    ],
)
async def test_a_host_of_another_name_is_another_host(delivery, asked, store):
    request = request_with(("Host", asked))

    assert await delivery.address(request, stored(Signing(store))) == store


async def test_the_name_that_counts_is_the_one_that_the_client_gave_the_proxy(delivery):
    request = request_with(
        ("Host", "registry.internal"),
        ("X-Forwarded-Host", "example.net"),
        client=("10.0.0.1", 9),
    )

    assert await delivery.address(request, stored()) is None
