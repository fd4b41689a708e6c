import json

import pytest

from tests.support.programs import Program

OPEN = ("--allow-http-registry", "--allow-insecure-registry")


@pytest.fixture(scope="session")
def cosign(stable_suite, registry, client_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cosign")
    program = Program(
        (str(stable_suite / "usr/bin/cosign"),),
        # No update of trust roots from the internet: everything here is signed with a key.
        {**client_home, "COSIGN_PASSWORD": "", "COSIGN_KEY_FOLDER": str(folder)},
    )
    program("generate-key-pair", folder=folder)
    program("login", registry.host, "-u", "x-token", "-p", registry.token)
    return program


@pytest.fixture
def key(cosign):
    return cosign.environment["COSIGN_KEY_FOLDER"] + "/cosign.key"


@pytest.fixture
def public_key(cosign):
    return cosign.environment["COSIGN_KEY_FOLDER"] + "/cosign.pub"


@pytest.fixture
def image(skopeo, registry, small, name):
    skopeo(
        "copy", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, small.reference, f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip
    return f"{registry.host}/{name}@{small.digest}"


def test_a_signature_is_found_and_verified(cosign, registry, image, small, name, key, public_key):
    cosign("sign", "-y", "--key", key, "--tlog-upload=false", *OPEN, image)

    said = cosign.output("verify", "--key", public_key, "--insecure-ignore-tlog=true", *OPEN, image)

    signed = json.loads(said)[0]["critical"]["image"]["docker-manifest-digest"]
    assert signed == small.digest
    registry.check(name, small.digest.replace(":", "-") + ".sig")


def test_an_attestation_is_found_and_verified(
    cosign, registry, image, small, name, key, public_key, tmp_path
):
    predicate = tmp_path / "predicate.json"
    predicate.write_text('{"made": "here"}')

    cosign(
        "attest", "-y", "--key", key, "--tlog-upload=false", *OPEN, "--predicate", predicate,
        "--type", "custom", image,
    )  # fmt: skip

    cosign(
        "verify-attestation", "--key", public_key, "--insecure-ignore-tlog=true", *OPEN,
        "--type", "custom", image,
    )  # fmt: skip
    registry.check(name, small.digest.replace(":", "-") + ".att")


def test_an_unsigned_image_is_told_from_a_signed_one(cosign, image, public_key):
    said = cosign.refused(
        "verify", "--key", public_key, "--insecure-ignore-tlog=true", *OPEN, image
    )

    assert "no signatures found" in said


def test_a_signature_as_a_referrer_is_listed(cosign, registry, image, small, name, key):
    experimental = Program(cosign.words, {**cosign.environment, "COSIGN_EXPERIMENTAL": "1"})

    experimental(
        "sign", "-y", "--key", key, "--tlog-upload=false", *OPEN,
        "--registry-referrers-mode", "oci-1-1", image,
    )  # fmt: skip

    listed = registry.http.request("GET", f"/v2/{name}/referrers/{small.digest}").json()
    assert len(listed["manifests"]) == 1
    registry.check(name, listed["manifests"][0]["digest"])
