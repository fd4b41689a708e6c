"""What a command says to a person: on standard error, and with the command that comes next."""

import shlex
import shutil
import sys
from pathlib import Path

import click


class Refused(click.ClickException):
    """What was asked for cannot be done; `commands` are what to type instead. Exit code 1."""

    def __init__(self, message: str, *commands: str) -> None:
        super().__init__("\n".join([printable(message), *_next(commands)]))


class UsageError(click.UsageError):
    """The command line lacks or contradicts something; `commands` say it right. Exit code 2."""

    def __init__(self, message: str, *commands: str) -> None:
        super().__init__("\n".join([printable(message), *_next(commands)]))


def say(message: str, *commands: str) -> None:
    """One message, and the commands that may come next."""
    click.echo("\n".join([printable(message), *_next(commands)]), err=True)


def command(*words: str) -> str:
    """A command of ours that can be pasted. Words in capitals are for the reader to fill in."""
    return shlex.join([program(), *words])


def repeated(*words: str) -> str:
    """The command that is running, with more words."""
    return shlex.join([program(), *sys.argv[1:], *words])


def program() -> str:
    """This program as it can be typed here: by its name, or by the path that was typed."""
    typed = sys.argv[0]
    found = shutil.which("entrepot")
    if Path(typed).name != "entrepot" or (found and Path(found).samefile(typed)):
        return "entrepot"
    return typed


def printable(text: str) -> str:
    """`text` without what a terminal would obey: names and notes are other people's words."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def _next(commands: tuple[str, ...]) -> list[str]:
    return [f"{'  or' if number else 'next'}: {text}" for number, text in enumerate(commands)]
