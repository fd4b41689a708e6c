"""Numbers of bytes as a person types them: 512MB, 1GiB."""

import click

from entrepot.model.sizes import read_size


def size(text: str) -> int:
    """The type of an option that takes a number of bytes."""
    try:
        found = read_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}") from error
    if not isinstance(found, int) or found < 1:
        raise click.BadParameter(f"{text!r} is nothing")
    return found
