"""The lifecycle as its users meet it: a real server, weeks that pass on its clock, real clients.

Images are pushed and pulled by skopeo, everything else is typed, and the disk is what `du` finds.
"""

import json
import sys
import time
from pathlib import Path

import pytest

from tests.cli.person import Person
from tests.clients.conftest import Registry
from tests.support.eventually import eventually
from tests.support.images import Layout, blobs_of
from tests.support.invariants import check_invariants
from tests.support.kept import KeptFiles
from tests.support.programs import Program, need
from tests.support.server import OCI_MANIFEST, Client, digest_of, running_server
from tests.support.soak.ledger import Ledger

_DAY = 86_400
_LOOKS = 4  # at most, until nothing waits: three are needed, and what is kept stays under a week
_EVER = 2**62
# Run, not imported: it turns the clock of whoever reads it.
_TURNED = Path(__file__).parents[1] / "support/turned_clock.py"
_ENVIRONMENT = {
    "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
    # How often it looks; for how long things are kept is the default.
    "ENTREPOT_RETENTION__EVERY_SECONDS": "1",
    "ENTREPOT_COLLECTION__EVERY_SECONDS": "1",
}


class House:
    """A registry on which days pass, its owner, and what is on its disk."""

    def __init__(self, server, clock, owner, skopeo):
        self.server = server
        self.owner = owner
        self.client = Client(server, token=server.token)
        self.registry = Registry(server, self.client)
        self.url = f"sqlite:///{server.data / 'entrepot.db'}"
        self.ledger = Ledger(self.url, server.data, KeptFiles(server.data))
        self._clock = clock
        self._skopeo = skopeo

    def copy(self, *words):
        self._skopeo(
            "copy", "--preserve-digests", "--dest-tls-verify=false", "--src-tls-verify=false", *words
        )  # fmt: skip

    def push(self, source, name, *words):
        credentials = ("--dest-creds", self.registry.credentials)
        self.copy(*words, *credentials, source, f"docker://{self.registry.host}/{name}")

    def pull(self, name, folder, *words):
        """Everything that came, by digest; skopeo and this compare all of it with its digests."""
        credentials = ("--src-creds", self.registry.credentials)
        self.copy(*words, *credentials, f"docker://{self.registry.host}/{name}", f"dir:{folder}")
        return blobs_of(folder)

    def refer(self, name, subject, kind):
        """Push an artifact that refers to a manifest, as oras and notation do; its digest."""
        body = self.client.make_image(name) | {
            "artifactType": kind,
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
        }
        content = json.dumps(body).encode()
        return self.client.push_manifest(name, digest_of(content), content, OCI_MANIFEST)

    def status(self, name, reference):
        return self.client.request("HEAD", f"/v2/{name}/manifests/{reference}").status_code

    def tags(self, name):
        return self.client.request("GET", f"/v2/{name}/tags/list").json()["tags"]

    def ask(self, *words):
        return json.loads(self.owner.run(*words, "--json").out)

    @property
    def used(self):
        """The bytes that `entrepot usage` says are held: blobs, and manifests."""
        return self.ask("usage")["usage"]["bytes"]

    @property
    def manifests(self):
        """The bytes of all manifests; they are in the database, not among the objects."""
        return int(self.ledger.rows("SELECT COALESCE(SUM(size), 0) FROM manifests")[0][0])

    @property
    def now(self):
        """What its clock says, in µs."""
        return int((time.time() + int(self._clock.read_text())) * 1_000_000)

    def waiting(self, until):
        """What is to be looked at or deleted by then."""
        return self.ledger.rows(
            f"""
            SELECT kind, digest, reason, due_at FROM review_queue WHERE due_at <= {until}
             UNION ALL
            SELECT 'object', digest, error, due_at FROM tombstones WHERE due_at <= {until}
            """
        )

    def pass_days(self, days):
        """Let time pass, until nothing is due any more.

        What goes leaves others behind that are due at that moment: so each look asks what is due
        by now, not by when the clock was turned.
        """
        turned = self._clock.with_suffix(".turned")
        turned.write_text(str(int(self._clock.read_text()) + int(days * _DAY)))
        turned.replace(self._clock)
        eventually(lambda: not self.waiting(self.now), missing="collection never ended")

    def collect(self):
        """Let days pass until nothing waits: whatever nothing keeps is gone from the disk.

        How many depends on when retention comes round: what hung below what it took a tag from is
        marked in its next round, and has a day from then on.
        """
        for _ in range(_LOOKS):
            self.pass_days(1.1)
            if not self.waiting(_EVER):
                return
        raise AssertionError(f"these still wait at {self.now}: {self.waiting(_EVER)}")


@pytest.fixture
def house(tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    (tmp_path / "home").mkdir()
    with running_server(
        tmp_path / "data",
        environment=_ENVIRONMENT | {"TURNED_CLOCK": str(clock)},
        command=(sys.executable, str(_TURNED)),
    ) as server:
        owner = Person(tmp_path / "home")
        owner.run("login", server.url, "--token-stdin", stdin=server.token)
        skopeo = Program((str(need("skopeo")),), {"HOME": str(owner.home)})
        house = House(server, clock, owner, skopeo)
        yield house
        house.client.close()
        now = time.time() + int(clock.read_text())
        check_invariants(house.url, server.data, now=now, late_seconds=1e9)


@pytest.fixture
def several(tmp_path):
    """An image of two platforms, which share their first layer."""
    layout = Layout(tmp_path / "layout")
    return layout.add_index(
        "several", megabytes=1, layers=2, shared=1, architectures=("amd64", "arm64")
    )


def test_a_week_old_image_goes_and_its_neighbour_keeps_the_layers_that_they_share(
    house, several, tmp_path
):
    house.push(several.reference, "team/app:old", "--override-arch=amd64")
    house.pass_days(5)
    house.push(several.reference, "team/app:new", "--override-arch=arm64")
    old, new = (house.registry.manifest("team/app", tag) for tag in ("old", "new"))
    shared, own = ({layer["digest"] for layer in each["layers"]} for each in (old, new))
    assert len(shared & own) == 1
    house.pass_days(1.9)
    assert house.tags("team/app") == ["new", "old"]
    said = house.ask("retention", "preview", "main/team/app", "--days", "6")["proposed"]
    stored, manifests, used = house.ledger.stored_bytes(), house.manifests, house.used

    house.pass_days(0.2)
    eventually(lambda: house.tags("team/app") == ["new"])
    assert house.used == used, "it can be restored, so it is held"
    house.collect()

    gone = stored - house.ledger.stored_bytes()
    assert gone == sum(part["size"] for part in (old["config"], *old["layers"][1:]))
    assert gone + manifests - house.manifests == said["freed_bytes"] == used - house.used
    assert house.ledger.stored_bytes() == house.ledger.known_bytes()
    pulled = house.pull("team/app:new", tmp_path / "pulled")
    assert own <= pulled.keys()


def test_an_image_of_several_platforms_lives_and_dies_with_what_refers_to_it(
    house, several, tmp_path
):
    name, digest = "team/app", several.digest
    house.push(several.reference, f"{name}:v1", "--all")
    signature_tag = digest.replace(":", "-") + ".sig"
    signature = house.client.push_image(name, signature_tag)
    sbom = house.refer(name, digest, "application/spdx+json")
    signed = house.refer(name, sbom, "application/vnd.cncf.notary.signature")
    children = [each["digest"] for each in house.registry.manifest(name, "v1")["manifests"]]
    all_of_it = [digest, *children, signature, sbom, signed]
    used = house.used
    house.pass_days(6)
    house.push(several.reference, f"{name}:v1", "--all")

    house.pass_days(6)

    assert [house.status(name, each) for each in all_of_it] == [200] * 6
    assert house.tags(name) == [signature_tag, "v1"]
    assert len(house.pull(f"{name}:v1", tmp_path / "before", "--all")) == len(
        house.pull(f"{name}@{digest}", tmp_path / "again", "--all")
    )
    assert house.used == used

    house.pass_days(1.1)
    eventually(lambda: "v1" not in house.tags(name))
    house.collect()

    assert [house.status(name, each) for each in all_of_it] == [404] * 6
    assert house.tags(name) == []
    assert (house.used, house.manifests) == (0, 0)
    assert house.ledger.stored_bytes() == 0


def test_a_mistaken_deletion_is_undone_as_long_as_it_says(house, several, tmp_path):
    name = "team/app"
    house.push(several.reference, f"{name}:v1", "--all")
    before = house.pull(f"{name}:v1", tmp_path / "before", "--all")
    stored = house.ledger.stored_bytes()

    house.owner.run("tag", "rm", "--yes", f"main/{name}:v1")
    house.pass_days(0.9)
    assert house.status(name, "v1") == 404
    house.owner.run("tag", "restore", f"main/{name}:v1")
    house.collect()

    assert house.pull(f"{name}:v1", tmp_path / "after", "--all") == before
    assert house.ledger.stored_bytes() == stored

    house.owner.run("tag", "rm", "--yes", f"main/{name}:v1")
    house.collect()

    refused = house.owner.run("tag", "restore", f"main/{name}:v1", code=1)
    assert "has been collected since" in refused.err
    assert house.ledger.stored_bytes() == 0
