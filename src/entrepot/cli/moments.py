"""Moments as a person types them: 2026-11-25, 2026-11-25T10:30Z, or 2h for two hours ago."""

from datetime import UTC, datetime, timedelta

import click

from entrepot.cli.durations import duration


def moment(text: str) -> str:
    """The type of an option that takes a moment; without a zone it is of this machine's."""
    if text[-1:] in set("smhd") and text[:-1].isdigit():
        found = datetime.now(UTC) - timedelta(microseconds=duration(text))
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            raise click.BadParameter(
                "a moment is written like 2026-11-25 or 2026-11-25T10:30, or 2h for two hours ago"
            ) from error
    return found.astimezone(UTC).isoformat()
