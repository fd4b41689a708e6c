"""Names, tags, slugs, digests, references, media types and algorithms against other oracles.

Each oracle reads the grammar in its own way, letter by letter, without a regular expression.
"""

import hashlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.model.digests import ALGORITHMS, Digest, parse_algorithm
from entrepot.model.errors import DigestInvalid, ManifestInvalid, NameInvalid, TagInvalid
from entrepot.model.ids import PUBLIC_ID_ALPHABET, PUBLIC_ID_LENGTH, new_id, new_public_id
from entrepot.model.media_types import parse_media_type
from entrepot.model.names import (
    RESERVED_SLUGS,
    RepositoryName,
    Slug,
    Tag,
    is_public_id,
    parse_reference,
)

_SMALL = string.ascii_lowercase + string.digits
_HEX = "0123456789abcdef"
_TAG_FIRST = string.ascii_letters + string.digits + "_"
_MEDIA_FIRST = string.ascii_letters + string.digits
_MEDIA_REST = _MEDIA_FIRST + "!#$&-^_.+"

# Mostly what the grammars are made of, so that many are nearly right, and some of anything.
near_names = st.text("az09._-/", max_size=20) | st.text("a._-/A\n\0 %", max_size=300) | st.text()
# The expression of the distribution-spec, as it stands there.
names = st.from_regex(
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", fullmatch=True
).filter(lambda text: len(text) <= 255)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
near_tags = st.text("aZ0._-", max_size=130) | st.text("a.\n :/é", max_size=130) | st.text()
near_digests = st.one_of(
    st.builds(
        "{}:{}".format,
        st.sampled_from(["sha256", "sha512", "sha384", "SHA256", "md5", ""]),
        st.sampled_from([0, 63, 64, 65, 127, 128, 129]).flatmap(
            lambda length: st.text("0a9fAg", min_size=length, max_size=length)
        ),
    ),
    st.text(),
)


def is_component(text):
    kept = "".join(letter if letter in _SMALL else " " for letter in text)
    words = kept.split(" ")
    if not words[0] or not words[-1]:
        return False
    gaps, gap = [], ""
    for letter in text:
        if letter in _SMALL:
            if gap:
                gaps.append(gap)
            gap = ""
        else:
            gap += letter
    return all(gap in {".", "_", "__"} or set(gap) == {"-"} for gap in gaps)


def is_name(text):
    return len(text) <= 255 and all(is_component(part) for part in text.split("/"))


def is_tag(text):
    return (
        1 <= len(text) <= 128
        and text[0] in _TAG_FIRST
        and all(letter in _TAG_FIRST + ".-" for letter in text)
    )


def is_digest(text):
    algorithm, colon, hex_digits = text.partition(":")
    length = {"sha256": 64, "sha512": 128}.get(algorithm)
    return bool(colon) and len(hex_digits) == length and set(hex_digits) <= set(_HEX)


def is_slug(text):
    return (
        1 <= len(text) <= 63
        and set(text) <= set(_SMALL + "-")
        and text[0] != "-"
        and text[-1] != "-"
        and text not in RESERVED_SLUGS
        and not (len(text) == PUBLIC_ID_LENGTH and set(text) <= set(PUBLIC_ID_ALPHABET))
    )


def is_media_type(text):
    parts = text.split(";")[0].strip().split("/")
    return len(parts) == 2 and all(
        1 <= len(part) <= 127 and part[0] in _MEDIA_FIRST and set(part) <= set(_MEDIA_REST)
        for part in parts
    )


def reads(parse, text, error):
    """Whether `parse` takes it; it may raise nothing but `error`."""
    try:
        parse(text)
    except error:
        return False
    return True


@given(near_names | names)
@example("a" * 255)
@example("a" * 256)
@example("a\n")
@example("a/../b")
@example("blobs/uploads")
@example("a___b")
@example("a" + "-" * 253 + "b")
def test_a_repository_name_is_read_if_and_only_if_the_grammar_has_it(text):
    assert reads(RepositoryName.parse, text, NameInvalid) == is_name(text)


@given(names)
def test_a_repository_name_comes_back_as_it_was(text):
    name = RepositoryName.parse(text)

    assert str(name) == text
    assert RepositoryName.parse(str(name)) == name
    assert (name.first + "/" + name.rest).rstrip("/") == text


@given(near_tags)
@example("a" * 128)
@example("a" * 129)
@example("")
@example("latest\n")
@example("sha256-" + "a" * 64)
def test_a_tag_is_read_if_and_only_if_the_grammar_has_it(text):
    assert reads(Tag.parse, text, TagInvalid) == is_tag(text)


@given(near_digests)
@example("sha256:" + "a" * 64 + "\n")
@example("sha256:" + "A" * 64)
@example("sha256:../" + "a" * 61)
@example("sha256:" + "٣" * 64)
def test_a_digest_is_read_if_and_only_if_it_is_canonical(text):
    assert reads(Digest.parse, text, DigestInvalid) == is_digest(text)


@given(near_digests | near_tags)
def test_a_reference_is_a_tag_or_a_digest_and_never_both(text):
    is_read = reads(parse_reference, text, (DigestInvalid, TagInvalid))

    assert is_read == (is_tag(text) != is_digest(text)) == (is_tag(text) or is_digest(text))
    if is_read:
        reference = parse_reference(text)
        assert str(reference) == text
        assert isinstance(reference, Digest) == is_digest(text)


@given(st.binary(), st.sampled_from(ALGORITHMS))
def test_a_digest_of_bytes_reads_back(content, algorithm):
    digest = Digest.of(content, algorithm)

    assert Digest.parse(str(digest)) == digest
    assert digest.hex == hashlib.new(algorithm, content).hexdigest()


@given(labels | st.text("az0-", max_size=66) | st.text(PUBLIC_ID_ALPHABET, max_size=12) | st.text())
@example("0123456789")
@example("bcdfghjklm")
@example("a--b")
@example("v2")
@example("a\n")
def test_a_slug_is_a_dns_label_that_no_id_can_be(text):
    assert reads(Slug.parse, text, NameInvalid) == is_slug(text)


@given(labels.filter(is_slug))
def test_every_slug_is_the_first_component_of_a_name(text):
    assert RepositoryName.parse(f"{Slug.parse(text)}/a").first == text


def test_no_public_id_of_ours_can_be_a_slug():
    for _ in range(200):
        public_id = new_public_id()

        assert is_public_id(public_id)
        assert not reads(Slug.parse, public_id, NameInvalid)
        assert reads(RepositoryName.parse, public_id, NameInvalid)


def test_ids_grow_and_fit_63_bits():
    ids = [new_id() for _ in range(10_000)]

    assert ids == sorted(set(ids))
    assert ids[0] > 0
    assert ids[-1] < 2**63


@given(st.text("aZ0/+.;- \t", max_size=30) | st.text("a/", max_size=260) | st.text())
@example("a/" + "b" * 127)
@example("a/" + "b" * 128)
@example("text/plain; charset=utf-8")
@example("a/b\n")
def test_a_media_type_is_read_if_and_only_if_rfc_6838_has_it(text):
    assert reads(parse_media_type, text, ManifestInvalid) == is_media_type(text)
    if is_media_type(text):
        bare = parse_media_type(text)
        assert parse_media_type(bare) == bare
        assert ";" not in bare


@given(st.sampled_from(ALGORITHMS) | st.text())
def test_only_algorithms_that_we_compute_are_read(text):
    assert reads(parse_algorithm, text, DigestInvalid) == (text in {"sha256", "sha512"})


@pytest.mark.parametrize("parse", [RepositoryName.parse, Tag.parse, Digest.parse, Slug.parse])
@given(text=st.text(max_size=8), times=st.integers(1, 100_000))
def test_a_refusal_never_repeats_much_of_what_came(parse, text, times):
    with pytest.raises((NameInvalid, TagInvalid, DigestInvalid)) as refused:
        parse("/" + text * times)

    assert len(repr(refused.value.values)) < 3_000
    assert len(refused.value.message) < 300
