"""Debian's docker-registry runs as an upstream and its log can be counted."""

from tests.support.server import OCI_MANIFEST, Client
from tests.support.upstreams.distribution import running_distribution


def test_what_was_pushed_is_served_and_counted(tmp_path, http):
    with running_distribution(tmp_path / "registry") as registry:
        client = Client(registry)
        digest = client.push_image("app", "1")
        client.close()

        accept = {"accept": OCI_MANIFEST}  # it has no manifest for `*/*`
        answer = http.get(f"{registry.url}/v2/app/manifests/1", headers=accept)

        assert answer.headers["docker-content-digest"] == digest
        assert registry.count("GET", "/v2/app/manifests/1") == 1
