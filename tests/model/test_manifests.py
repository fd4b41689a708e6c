"""Manifests, bent in every way we can think of: read in exactly one way, or refused (T14, T57)."""

import json
import tracemalloc
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.model.errors import DigestInvalid, ManifestInvalid
from entrepot.model.manifests import ManifestFacts, ManifestLimits, read_manifest
from entrepot.model.media_types import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    IMAGES,
    INDEXES,
    OCI_INDEX,
    OCI_MANIFEST,
)

LIMITS = ManifestLimits(layers=6, index_children=6, annotation_bytes=40, config_bytes=1_000)
_DIGESTS = [f"sha256:{letter * 64}" for letter in "abcd"] + ["sha512:" + "e" * 128]
_CHOICE = st.sampled_from(_DIGESTS)
_TYPES = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.unknown",
    OCI_MANIFEST,
    OCI_INDEX,
]
descriptors = st.builds(
    lambda digest, size, media_type: {"digest": digest, "size": size, "mediaType": media_type},
    _CHOICE,
    st.integers(0, 1_000),
    st.sampled_from(_TYPES),
)
annotations = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
_MORE = {"subject": descriptors, "annotations": annotations, "artifactType": st.just("a/b")}
images = st.fixed_dictionaries(
    {
        "schemaVersion": st.just(2),
        "mediaType": st.sampled_from(sorted(IMAGES)),
        "config": descriptors,
        "layers": st.lists(descriptors, max_size=6),
    },
    optional=_MORE,
)
indexes = st.fixed_dictionaries(
    {
        "schemaVersion": st.just(2),
        "mediaType": st.sampled_from(sorted(INDEXES)),
        "manifests": st.lists(descriptors, max_size=6),
    },
    optional=_MORE,
)
documents = images | indexes
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
_FIELDS = [
    *("schemaVersion", "mediaType", "artifactType", "config", "layers", "blobs", "manifests"),
    *("subject", "annotations", "signatures", "fsLayers", "digest", "size", "urls"),
]


def read(body, content_type=None):
    """The facts, or None when it is refused; nothing else may be raised."""
    try:
        return read_manifest(body, content_type, LIMITS)
    except (ManifestInvalid, DigestInvalid):
        return None


def refused(body, content_type=None):
    return read(body, content_type) is None


@given(documents)
def test_a_plain_manifest_needs_exactly_what_it_lists(document):
    facts = read(json.dumps(document).encode())

    assert facts is not None
    assert facts.media_type == document["mediaType"]
    parts = [*document.get("layers", []), *([document["config"]] if "config" in document else [])]
    assert facts.blobs == {part["digest"] for part in parts}
    listed = document.get("manifests", [])
    assert facts.children | facts.either == {part["digest"] for part in listed}
    assert facts.children == {
        part["digest"]
        for part in listed
        if "image" in part["mediaType"] and "layer" not in part["mediaType"]
    }
    assert str(facts.subject or "") == document.get("subject", {}).get("digest", "")
    assert json.loads(facts.annotations or "{}") == document.get("annotations", {})


@given(documents, st.integers(0, 3), st.booleans())
def test_space_and_order_change_nothing_that_we_read(document, indent, in_order):
    turned = dict(reversed(document.items()))

    facts = read(json.dumps(document).encode())
    other = read(json.dumps(turned, indent=indent, sort_keys=in_order).encode())

    said = [json.loads(read_twice.annotations or "{}") for read_twice in (facts, other)]
    assert said[0] == said[1]
    assert replace(facts, annotations=None) == replace(other, annotations=None)


@given(
    documents,
    st.sampled_from(_FIELDS),
    json_values,
    st.sampled_from([None, OCI_MANIFEST, OCI_INDEX, "a/b"]),
)
def test_a_field_with_any_value_is_read_or_refused(document, field, value, content_type):
    read(json.dumps(document | {field: value}).encode(), content_type)


@given(
    documents,
    st.sampled_from(["config", "layers", "manifests", "subject"]),
    st.sampled_from(_FIELDS),
    json_values,
)
def test_a_descriptor_with_any_value_is_read_or_refused(document, where, field, value):
    bent = {"digest": _DIGESTS[0], "size": 1, "mediaType": "a/b", field: value}
    part = bent if where in {"config", "subject"} else [bent]

    facts = read(json.dumps(document | {where: part}).encode())

    if facts is not None and field == "digest":
        assert value in _DIGESTS


@given(documents, st.data())
def test_a_changed_byte_is_read_or_refused_and_never_more(document, data):
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    facts = read(bytes(body))

    if facts is not None:
        # A strict reader of other make must see the same document.
        seen = msgspec.json.decode(bytes(body))
        assert {
            part["digest"] for part in seen.get("manifests") or []
        } == facts.children | facts.either


@given(st.binary(max_size=200) | st.text().map(str.encode), st.none() | st.text(max_size=30))
@example(b"", None)
@example(b"null", None)
@example(b"[]", OCI_MANIFEST)
@example(b"{}", None)
def test_anything_at_all_is_read_or_refused(body, content_type):
    facts = read(body, content_type)

    assert facts is None or isinstance(facts, ManifestFacts)


@given(images, indexes, st.sampled_from([None, OCI_MANIFEST, OCI_INDEX, DOCKER_LIST, "a/b"]))
def test_what_could_be_an_image_and_an_index_is_refused(image, index, content_type):
    assert refused(json.dumps(image | index).encode(), content_type)
    assert refused(json.dumps(index | image).encode(), content_type)
    untyped = {key: value for key, value in (image | index).items() if key != "mediaType"}
    assert refused(json.dumps(untyped).encode(), content_type)


@given(documents, st.sampled_from([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "a/b"]))
def test_content_type_and_media_type_must_agree(document, content_type):
    assert refused(json.dumps(document).encode(), content_type) == (
        content_type != document["mediaType"]
    )


@given(documents, st.data())
def test_a_key_that_stands_twice_is_refused_wherever_it_is(document, data):
    key = data.draw(st.sampled_from(sorted(document)))
    text = json.dumps(document)

    twice = text[:-1] + f", {json.dumps(key)}: {json.dumps(document[key])}" + "}"
    deep = text[:-1] + ', "x": [{"y": {"a": 1, "a": 1}}]}'
    escaped = text[:-1] + f', "\\u{ord(key[0]):04x}{key[1:]}": 0}}'

    assert refused(twice.encode())
    assert refused(deep.encode())
    assert refused(escaped.encode())


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda body: b"\xef\xbb\xbf" + body, id="byte order mark"),
        pytest.param(lambda body: body.decode().encode("utf-16"), id="utf-16"),
        pytest.param(lambda body: body.decode().encode("utf-32"), id="utf-32"),
        pytest.param(lambda body: body + b"x", id="trailing letter"),
        pytest.param(lambda body: body + b"\0", id="trailing nul"),
        pytest.param(lambda body: body + body, id="twice"),
        pytest.param(lambda body: body[:-1], id="cut"),
        pytest.param(lambda body: body[:-1] + b', "x": NaN}', id="nan"),
        pytest.param(lambda body: body[:-1] + b', "x": Infinity}', id="infinity"),
        pytest.param(lambda body: body[:-1] + b', "x": -Infinity}', id="minus infinity"),
        pytest.param(lambda body: body[:-1] + b', "x": 1e400}', id="1e400"),
        pytest.param(lambda body: body[:-1] + b', "x": ' + b"9" * 5_000 + b"}", id="5000 digits"),
        pytest.param(lambda body: body[:-1] + b', "x": 01}', id="leading zero"),
        pytest.param(lambda body: body[:-1] + b', "x": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(lambda body: body[:-1] + b', "x": "\xff"}', id="no utf-8"),
        pytest.param(lambda body: body[:-1] + b', "x": "\n"}', id="line break in a text"),
        pytest.param(lambda body: body[:-1] + b",}", id="trailing comma"),
        pytest.param(lambda body: b"// a\n" + body, id="comment"),
        pytest.param(lambda body: body.replace(b"2", b"true", 1), id="true for a number"),
        pytest.param(lambda body: body.replace(b"2", b'"2"', 1), id="text for a number"),
        pytest.param(
            lambda body: body[:-1] + b', "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="depth"
        ),
        pytest.param(lambda _: b"[" * 1_000_000, id="depth without end"),
        pytest.param(
            lambda body: body[:-1] + b', "x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
            id="depth of objects",
        ),
    ],
)
def test_json_that_others_may_read_otherwise_is_refused(bend):
    config = {"digest": _DIGESTS[0], "size": 1}
    body = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
    assert not refused(body)

    assert refused(bend(body))


@given(st.integers(0, 12), st.sampled_from(["layers", "manifests"]))
def test_no_more_parts_than_the_limit(count, field):
    part = {"digest": _DIGESTS[0], "size": 1}
    document = {"schemaVersion": 2, field: [part] * count}
    if field == "layers":
        document["config"] = part

    assert refused(json.dumps(document).encode()) == (count > 6)


@given(st.text(max_size=50), st.text(max_size=50))
def test_an_annotation_is_measured_in_bytes(key, value):
    part = {"digest": _DIGESTS[0], "size": 1}
    document = {"schemaVersion": 2, "config": part, "layers": [], "annotations": {key: value}}

    assert refused(json.dumps(document).encode()) == (len((key + value).encode()) > 40)


@given(st.integers(-(10**30), 10**30))
@example(2**63)
@example(-1)
def test_a_size_is_a_number_that_is_not_negative(size):
    part = {"digest": _DIGESTS[0], "size": size}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [part]}

    assert refused(json.dumps(document).encode()) == (size < 0)


@pytest.mark.parametrize("count", [100_000])
def test_a_hundred_thousand_layers_are_refused_within_bounded_memory(count):
    part = json.dumps({"digest": _DIGESTS[0], "size": 1})
    body = (
        f'{{"schemaVersion": 2, "config": {part}, "layers": [{",".join([part] * count)}]}}'.encode()
    )
    tracemalloc.start()

    with pytest.raises(ManifestInvalid, match="at most 6 layers; this one has 100000"):
        read_manifest(body, None, LIMITS)

    assert tracemalloc.get_traced_memory()[1] < 12 * len(body)
    tracemalloc.stop()


def test_a_huge_annotation_is_refused_by_its_name():
    part = {"digest": _DIGESTS[0], "size": 1}
    document = {
        "schemaVersion": 2,
        "config": part,
        "layers": [],
        "annotations": {"big": "x" * 1_000_000},
    }

    with pytest.raises(
        ManifestInvalid, match="an annotation has at most 40 bytes; big has 1000003"
    ):
        read_manifest(json.dumps(document).encode(), None, LIMITS)
