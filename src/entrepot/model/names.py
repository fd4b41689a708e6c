"""Names of repositories, tags, organisations (distribution-spec, "Pulling manifests")."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from entrepot.model.digests import Digest
from entrepot.model.errors import NameInvalid, TagInvalid
from entrepot.model.ids import PUBLIC_ID_ALPHABET, PUBLIC_ID_LENGTH

# distribution-spec: `<name>`; host, "/" and name together stay within 255 characters.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# An e-mail address will do, since that is what many organisations call their people by.
_USER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*|[a-z0-9][a-z0-9._+-]*@[a-z0-9][a-z0-9.-]*")
_PUBLIC_ID = re.compile(rf"[{PUBLIC_ID_ALPHABET}]{{{PUBLIC_ID_LENGTH}}}")
NAME_LIMIT = 255
USER_NAME_LIMIT = 64

# First segments and sub-domains with a meaning of their own.
RESERVED_SLUGS = frozenset(
    {"admin", "api", "app", "assets", "auth", "healthz", "library", "login", "metrics", "mirror"}
    | {"ops", "readyz", "registry", "static", "status", "token", "v1", "v2", "www"}
)


@dataclass(frozen=True, slots=True)
class RepositoryName:
    """A repository's name as it stands in a URL; well-formed once built."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name. Raises NameInvalid."""
        if len(text) > NAME_LIMIT:
            message = f"a repository name has at most {NAME_LIMIT} characters"
            raise NameInvalid(message, name=text[:80], length=len(text))
        if _NAME.fullmatch(text) is None:
            message = (
                "a repository name is lower-case letters and digits, parted by one of . _ __ - "
                "and, between components, by /"
            )
            raise NameInvalid(message, name=text)
        return cls(text)

    @property
    def first(self) -> str:
        """The first component."""
        return self.text.partition("/")[0]

    @property
    def rest(self) -> str:
        """What follows the first component, or nothing."""
        return self.text.partition("/")[2]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag; well-formed once built. `sha256-<hex>` is a tag like any other."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a tag. Raises TagInvalid."""
        if _TAG.fullmatch(text) is None:
            message = (
                "a tag is at most 128 letters, digits, dots, dashes and underscores, "
                "and begins with no dot or dash"
            )
            raise TagInvalid(message, tag=text[:200])
        return cls(text)

    def __str__(self) -> str:
        return self.text


Reference = Tag | Digest


@lru_cache(maxsize=4_096)  # of at most 135 characters each: the busy path asks for the same ones
def parse_reference(text: str) -> Reference:
    """Read the last part of a manifest's address. Raises DigestInvalid or TagInvalid."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)


@dataclass(frozen=True, slots=True)
class Slug:
    """An organisation's name in addresses: a DNS label that can never be anybody's public id."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a slug. Raises NameInvalid."""
        if _SLUG.fullmatch(text) is None or _NAME.fullmatch(text) is None:
            message = (
                "a slug is 1 to 63 lower-case letters, digits and dashes, "
                "and begins and ends with a letter or digit"
            )
            raise NameInvalid(message, slug=text[:80])
        if is_public_id(text):
            message = "a slug must differ from the form of ids; add a vowel or another character"
            raise NameInvalid(message, slug=text)
        if text in RESERVED_SLUGS:
            message = f"{text} is a reserved word; choose another slug"
            raise NameInvalid(message, slug=text)
        return cls(text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class UserName:
    """What a user is called; well-formed once built."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name. Raises NameInvalid."""
        if len(text) > USER_NAME_LIMIT or _USER_NAME.fullmatch(text) is None:
            message = (
                f"a user name is 1 to {USER_NAME_LIMIT} lower-case letters, digits and . _ -, "
                "begins with a letter or digit, or is such an e-mail address"
            )
            raise NameInvalid(message, field="name")
        return cls(text)

    def __str__(self) -> str:
        return self.text


def is_public_id(text: str) -> bool:
    """Whether `text` has the form of an organisation's or project's public id."""
    return _PUBLIC_ID.fullmatch(text) is not None


def is_at_or_below(host: str, name: str) -> bool:
    """Whether `host` is `name` or a sub-domain of it.

    Clients that are led from `name` to such a host send their token along (Go's do, whatever the
    port).
    """
    return host == name or host.endswith(f".{name}")
