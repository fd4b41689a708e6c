"""Every input has a number: at it all is well, above it comes the exact status and the number."""

import json
import time

import pytest

from tests.protocol.documents import artifact, child, code_of, descriptor, index, put
from tests.protocol.registry import credential_of
from tests.protocol.wire import connection, head, receive, send
from tests.support.server import OCI_INDEX, OCI_MANIFEST, Client, basic, digest_of

MIB = 1024 * 1024
KIB = 1024


def padded(document, size):
    """The document as JSON of exactly this many bytes."""
    body = json.dumps(document)
    return (body + " " * (size - len(body))).encode()


def test_a_manifest_has_at_most_4_mib(client, name):
    document = artifact(client, name)

    fits = put(client, name, "fits", padded(document, 4 * MIB), OCI_MANIFEST)
    over = put(client, name, "over", padded(document, 4 * MIB + 1), OCI_MANIFEST)

    assert fits.status_code == 201
    assert over.status_code == 413
    assert code_of(over) == "MANIFEST_INVALID"
    assert str(4 * MIB) in over.text


def test_a_manifest_that_announces_too_much_is_refused_before_it_is_sent(registry, client, name):
    headers = {
        **credential_of(registry, client, name),
        "Content-Type": OCI_MANIFEST,
        "Content-Length": str(10**12),
    }

    with connection(registry.server) as sock:
        sock.sendall(head(registry.server, "PUT", f"/v2/{name}/manifests/v1", headers))
        answer = receive(sock)

    assert answer.status == 413


def test_a_chunked_manifest_is_cut_off_at_the_limit(registry, client, name):
    headers = {**credential_of(registry, client, name), "Content-Type": OCI_MANIFEST}

    with connection(registry.server) as sock:
        target = f"/v2/{name}/manifests/v1"
        sock.sendall(head(registry.server, "PUT", target, headers, is_chunked=True))
        piece = b"100000\r\n" + b" " * MIB + b"\r\n"
        for _ in range(5):
            sock.sendall(piece)
        answer = receive(sock)

    assert answer.status == 413


def test_a_configuration_has_at_most_8_mib(client, name):
    document = artifact(client, name)

    document["config"] |= {"size": 8 * MIB + 1}
    over = put(client, name, "v1", document, OCI_MANIFEST)

    assert over.status_code == 400
    assert code_of(over) == "MANIFEST_INVALID"
    assert str(8 * MIB) in over.text


def test_a_manifest_has_at_most_1000_layers(client, name):
    layer = descriptor(client, name, b"layer", "application/x-layer")

    fits = put(client, name, "v1", artifact(client, name, layers=[layer] * 1_000), OCI_MANIFEST)
    over = put(client, name, "v2", artifact(client, name, layers=[layer] * 1_001), OCI_MANIFEST)
    far_over = put(
        client, name, "v3", artifact(client, name, layers=[layer] * 20_000), OCI_MANIFEST
    )

    assert fits.status_code == 201
    for answer in (over, far_over):
        assert answer.status_code == 400
        assert code_of(answer) == "MANIFEST_INVALID"
        assert "1000" in answer.text


def test_an_index_has_at_most_1000_entries(client, name):
    image = client.make_image(name)
    entry = child(client.push_manifest(name, "image", image), len(json.dumps(image)))

    fits = put(client, name, "v1", index([entry] * 1_000), OCI_INDEX)
    over = put(client, name, "v2", index([entry] * 1_001), OCI_INDEX)

    assert fits.status_code == 201
    assert over.status_code == 400
    assert "1000" in over.text


def test_indexes_nest_at_most_4_deep(client, name):
    document = client.make_image(name)
    media_type = OCI_MANIFEST
    for depth in range(1, 6):
        digest = client.push_manifest(name, f"depth-{depth}", document, media_type)
        size = len(json.dumps(document))
        document, media_type = index([child(digest, size, media_type)]), OCI_INDEX

    over = put(client, name, "over", document, OCI_INDEX)

    assert over.status_code == 400
    assert code_of(over) == "MANIFEST_INVALID"
    assert "4" in over.text


def test_an_annotation_has_at_most_256_kib(client, name):
    fits = artifact(client, name, annotations={"a": "x" * (256 * KIB - 1), "b": "y" * 100_000})
    over = artifact(client, name, annotations={"a": "x" * (256 * KIB)})

    assert put(client, name, "v1", fits, OCI_MANIFEST).status_code == 201
    answer = put(client, name, "v2", over, OCI_MANIFEST)
    assert answer.status_code == 400
    assert code_of(answer) == "MANIFEST_INVALID"
    assert str(256 * KIB) in answer.text


def test_a_manifest_of_little_but_annotations_is_taken(client, name):
    """As the conformance suite of the specification pushes it: about 3.9 MB."""
    annotations = {f"large-{number}": "A" * 10_000 for number in range(390)}

    answer = put(client, name, "v1", artifact(client, name, annotations=annotations), OCI_MANIFEST)

    assert answer.status_code == 201


def test_a_put_has_at_most_50_tags(client, name):
    body = json.dumps(client.make_image(name)).encode()
    path = f"/v2/{name}/manifests/{digest_of(body)}"
    headers = {"content-type": OCI_MANIFEST}

    answers = [
        client.request(
            "PUT",
            path,
            params={"tag": [f"t{n}" for n in range(count)]},
            content=body,
            headers=headers,
        )
        for count in (50, 51, 900)
    ]

    assert [answer.status_code for answer in answers] == [201, 414, 414]
    assert len(answers[0].headers.get_list("oci-tag")) == 50
    for answer in answers[1:]:
        assert "50" in answer.text


def test_a_query_of_fifty_thousand_tags_is_refused(registry, client, name):
    query = "&".join(f"tag=t{number}" for number in range(5_000))

    answer = send(
        registry.server,
        "PUT",
        f"/v2/{name}/manifests/{digest_of(b'')}?{query}",
        credential_of(registry, client, name),
        b"{}",
    )

    assert answer.status in {400, 414, 431}


def test_headers_have_at_most_32_kib(registry, client, name):
    client.push_image(name, "v1")
    credential = credential_of(registry, client, name)
    path = f"/v2/{name}/manifests/v1"

    fits = send(registry.server, "GET", path, {**credential, "X-Fill": "x" * 30 * KIB})
    over = send(registry.server, "GET", path, {**credential, "X-Fill": "x" * 33 * KIB})

    assert fits.status == 200
    assert over.status == 431
    assert str(32 * KIB).encode() in over.body


def test_a_header_of_a_megabyte_never_reaches_the_registry(registry, client, name):
    with connection(registry.server) as sock:
        try:
            sock.sendall(head(registry.server, "GET", "/v2/", {"X-Fill": "x" * MIB}))
            status = receive(sock).status
        except OSError:
            status = 431  # the connection was closed before all was sent

    assert status in {400, 431}
    assert client.request("GET", "/v2/").status_code == 200


def test_a_credential_has_at_most_1000_uploads_open(closed, name):
    token = closed.new_token("org")
    client = Client(closed.server, token=token)
    location = client.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    _open_more(closed, token, 999)

    over = client.request("POST", f"/v2/{name}/blobs/uploads/")
    client.request("DELETE", location)
    after = client.request("POST", f"/v2/{name}/blobs/uploads/")

    assert over.status_code == 429
    assert code_of(over) == "TOOMANYREQUESTS"
    assert over.headers["retry-after"].isdigit()
    assert "1000" in over.text
    assert after.status_code == 202
    client.close()


def _open_more(registry, token, count):
    """More sessions of a token, as rows: opening each would only take longer."""
    from entrepot.identity.tokens import hash_token

    numbers = json.dumps([f"{token[-8:]}-{number}" for number in range(count)])
    added = registry.change(
        """
        INSERT INTO uploads (id, repository_id, token_id, algorithm, storage_key, size,
                             created_at, expires_at)
        SELECT n.value, u.repository_id, u.token_id, u.algorithm, n.value, 0,
               u.created_at, u.expires_at
          FROM uploads AS u
          JOIN tokens AS t ON t.id = u.token_id
         CROSS JOIN json_each(:numbers) AS n
         WHERE t.hash = :hash
        """.replace("json_each(:numbers) AS n", "(SELECT value FROM json_each(:numbers)) AS n"),
        numbers=numbers,
        hash=hash_token(token),
    )
    assert added == count


def test_a_form_of_the_token_service_has_at_most_64_kib(closed):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    answer = send(closed.server, "POST", "/v2/token", headers, b"a=" + b"x" * 64 * KIB)

    assert answer.status == 413


def test_a_page_has_at_most_1000_entries(client, name):
    tags = [f"t{number:04}" for number in range(1_020)]
    body = json.dumps(client.make_image(name)).encode()
    for start in range(0, len(tags), 50):
        client.request(
            "PUT",
            f"/v2/{name}/manifests/{digest_of(body)}",
            params={"tag": tags[start : start + 50]},
            content=body,
            headers={"content-type": OCI_MANIFEST},
        )

    clamped = client.request("GET", f"/v2/{name}/tags/list?n=5000")
    whole = client.request("GET", f"/v2/{name}/tags/list")

    assert clamped.json()["tags"] == tags[:1_000]
    assert "n=1000" in clamped.headers["link"]
    assert whole.json()["tags"] == tags
    assert "link" not in whole.headers


def test_deep_and_wide_documents_cost_little(client, name):
    started = time.monotonic()
    for body in (
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" + b"[]," * 1_000_000 + b"[]]",
        b'{"schemaVersion":' + b"9" * 1_000_000 + b"}",
    ):
        answer = put(client, name, "v1", body, OCI_MANIFEST)

        assert answer.status_code == 400
        assert code_of(answer) == "MANIFEST_INVALID"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * 300_000])
def test_a_refusal_before_the_body_leaves_the_connection_in_order(closed, name, body):
    """Either the rest is read or the connection is closed: it is never taken for a request."""
    with connection(closed.server) as sock:
        target = f"/v2/{name}/blobs/uploads/x"
        try:
            sock.sendall(head(closed.server, "PUT", target, {}, body))
        except OSError:
            return
        answer = receive(sock)
        assert answer.status == 401
        if answer.headers.get("connection") == "close":
            return
        sock.sendall(head(closed.server, "GET", "/v2/", basic(closed.server.token)))
        assert receive(sock).status == 200
