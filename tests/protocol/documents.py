"""Manifests of every kind that clients push."""

import json
from typing import Any

from tests.support.server import OCI_INDEX, OCI_MANIFEST, Client

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"

Document = dict[str, Any]


def descriptor(client: Client, name: str, content: bytes, media_type: str) -> Document:
    """Of a blob that is pushed now."""
    digest = client.push_blob(name, content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def artifact(client: Client, name: str, **fields: Any) -> Document:
    """The smallest manifest: an empty configuration, no layers, and `fields`."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(client, name, b"{}", EMPTY),
        "layers": [],
        **fields,
    }


def index(children: list[Document], **fields: Any) -> Document:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children, **fields}


def child(digest: str, size: int, media_type: str = OCI_MANIFEST, **fields: Any) -> Document:
    return {"mediaType": media_type, "digest": digest, "size": size, **fields}


def put(client: Client, name: str, reference: str, document: Any, content_type: str | None = None):
    """PUT a manifest without expecting success."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {"content-type": content_type} if content_type else {}
    return client.request("PUT", f"/v2/{name}/manifests/{reference}", content=body, headers=headers)


def code_of(answer: Any) -> str:
    return str(answer.json()["errors"][0]["code"])
