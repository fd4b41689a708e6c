"""A host name that leads elsewhere once its upstream was saved, through a whole server.

No public address can be reached from a test: 127.0.0.2, the one that this server may reach, stands
for it. Names are resolved as ever, from an /etc/hosts that the server alone has.
"""

from contextlib import contextmanager

import pytest

from tests.mirror.stand import Stand
from tests.protocol.registry import Registry
from tests.support.programs import need_mounts
from tests.support.server import running_server
from tests.support.upstreams import ScriptedUpstream
from tests.support.upstreams.silent import Canary

pytestmark = pytest.mark.slow  # two starts of a server

NAME = "rebound.example"
_ENTER = 'mount --bind "$0" /etc/hosts && exec "$@"'


@pytest.fixture
def upstream():
    server = ScriptedUpstream(host="127.0.0.2")
    with server.running():
        server.put_image("team/app", "1")
        yield server


@pytest.fixture
def canary(upstream):
    """At the upstream's port of an address that must not be reached."""
    with Canary().listening("127.0.0.1", upstream.port) as listening:
        yield listening


@pytest.fixture
def started(tmp_path):
    """Starts the server on its data, with the name at an address; the other one leads it on."""
    need_mounts("a host name of a test is mounted over /etc/hosts")
    hosts = tmp_path / "hosts"

    def lead(address):
        hosts.write_text(f"127.0.0.1 localhost\n{address} {NAME}\n")

    @contextmanager
    def start(address):
        lead(address)
        with running_server(
            tmp_path / "data",
            environment={"ENTREPOT_OUTBOUND__ALLOW": "127.0.0.2/32"},
            command=("unshare", "--mount", "sh", "-c", _ENTER, str(hosts)),
        ) as server:
            stand = Stand(Registry(server, ""))
            try:
                yield stand, lead
            finally:
                stand.close()

    return start


def test_a_name_is_judged_by_where_it_leads_each_time_it_is_called(started, upstream, canary):
    with started("127.0.0.2") as (stand, _):
        saved = stand.add_upstream(f"http://{NAME}:{upstream.port}", name="rebound")
        made = stand.cache_of(saved, "team/app", freshness=0)
        stand.admin.made("/organisations/main/mirrors", {"prefix": "all", "upstream": "rebound"})
        assert len(upstream.log.entries) >= 2
    upstream.log.clear()

    said = []
    with started("127.0.0.1") as (stand, lead):
        for number, address in enumerate(("127.0.0.1", "169.254.169.254")):
            lead(address)
            names = (
                f"{made.name}/manifests/{number}",
                f"{made.name}/blobs/sha256:{str(number) * 64}",
                f"all/team/app{number}/manifests/1",
            )
            said += [pull(stand, name) for name in names]
            said.append(stand.check(saved)["check_error"])
        said.append(pull(stand, f"{made.name}/tags/list"))

    assert len(said) == 9
    for sentence in said:
        assert "an address that this server must not reach" in sentence
        assert "127.0.0.1" not in sentence
        assert "169.254" not in sentence
    assert (upstream.log.entries, canary.visits) == ([], 0)


def pull(stand, name):
    """What is said of a pull that fails on account of the upstream."""
    auth = ("x", stand.registry.server.token)
    answer = stand.admin.http.get(f"{stand.registry.url}/v2/{name}", auth=auth)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (502, "UNAVAILABLE")
    return answer.text
