"""Headers of everything that a digest names, and of what repeats somebody's words."""

from functools import lru_cache

from entrepot.web.answers import Header

# Attackers choose these bytes and their type: a browser must neither guess nor run them.
GUARDS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)
_AS_DOWNLOAD: Header = (b"content-disposition", b"attachment")
API_VERSION: Header = (b"docker-distribution-api-version", b"registry/2.0")


def content_headers(media_type: str, digest: str, etag: str) -> list[Header]:
    """Type, digest and entity tag."""
    return [*_of_content(media_type, digest, etag)]


def redirect_headers(address: str, digest: str) -> list[Header]:
    """For an answer that leads to where the content is.

    No cache may keep it: the address ends, and is a secret of whoever asked.
    """
    return [
        (b"location", address.encode()),
        (b"docker-content-digest", digest.encode()),
        (b"cache-control", b"no-store"),
        API_VERSION,
    ]


@lru_cache(maxsize=4_096)
def _of_content(media_type: str, digest: str, etag: str) -> tuple[Header, ...]:
    """They never change for a digest, and the same ones are pulled again and again."""
    return (
        (b"content-type", media_type.encode()),
        (b"docker-content-digest", digest.encode()),
        (b"etag", etag.encode()),
        API_VERSION,
        *GUARDS,
        _AS_DOWNLOAD,
    )
