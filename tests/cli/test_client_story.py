"""A registry, from its first start to a cluster that pulls, by what the program itself says next."""

import base64
import json
import re

import pytest

from tests.cli.person import Person
from tests.support.server import Client, running_server


@pytest.mark.slow
def test_every_step_follows_from_what_the_program_said(tmp_path):
    with running_server(tmp_path / "data") as server:
        admin, bob = Person(tmp_path / "admin"), Person(tmp_path / "bob")
        admin.home.mkdir()
        bob.home.mkdir()

        first_start = server.log.read_text()
        (log_in,) = re.findall(r"^  (\S*entrepot login .+ < .+)$", first_start, re.MULTILINE)
        said = admin.type(log_in)
        said = admin.type(said.next_with("org create").replace("SLUG", "acme"))
        invited = admin.type(said.next_with("member invite"))

        join = invited.next_with("join")
        assert invited.out.strip() in join
        asked = bob.type(join, code=2)  # nobody is there to be asked for a name
        assert "--user NAME --password-stdin" in asked.err
        said = bob.type(f"{join} --user bob --password-stdin", stdin="correct horse battery\n")
        assert "logged in" in said.err

        project = bob.type(_last(said, "project create").replace("NAME", "app"))
        ci = bob.type(project.next_with("token create"))
        secret = bob.type(
            ci.next_with("kubernetes-secret").replace("NAME", "pull"), code=2
        )  # a cluster does not know this machine as localhost
        manifest = bob.type(secret.next_with("--host") + " --json")

        build, host = project.out.strip(), "registry.example.com"
        document = json.loads(manifest.out)
        entry = json.loads(base64.b64decode(document["data"][".dockerconfigjson"]))["auths"][host]
        pulling = Client(server, token=entry["password"])
        pushing = Client(server, token=ci.out.strip())
        digest = pushing.push_image(build, "build-1")

        assert "ends in 90 d" in ci.err
        assert document["type"] == "kubernetes.io/dockerconfigjson"
        assert base64.b64decode(entry["auth"]).decode() == f"x-token:{entry['password']}"
        assert pulling.request("GET", f"/v2/{build}/manifests/{digest}").status_code == 200
        assert _refuses_to_push(pulling, build)
        assert _refuses_to_push(pushing, "acme/other")
        assert "kubectl apply -f pull.yaml" in manifest.next
        assert any("imagePullSecrets" in line for line in manifest.next)

        bob.type(ci.next_with("token revoke") + " --yes")
        pulling.close()
        pushing.close()


def _last(said, words):
    return [line for line in said.next if words in line][-1]


def _refuses_to_push(client, name):
    return client.request("POST", f"/v2/{name}/blobs/uploads/").status_code in {401, 403, 404}
