"""What a command asks a person for; without a terminal it says what to type instead."""

import sys

import click

from entrepot.cli.messages import UsageError, printable, repeated


def is_attended() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Go on only after a yes. Raises UsageError without a terminal, Abort after a no."""
    if yes:
        return
    if not is_attended():
        raise UsageError(f"{question} Nobody is here to ask; say it with --yes", repeated("--yes"))
    click.confirm(printable(question.replace("\n", " ")), abort=True, err=True)


def ask(question: str, instead: str) -> str:
    """A line of text. Raises UsageError without a terminal: `instead` says which option to use."""
    _require_somebody(question, instead)
    answer: str = click.prompt(question, err=True)
    return answer


def ask_secret(
    question: str, instead: str, *, twice: bool = False, may_be_empty: bool = False
) -> str:
    """A line of text that is not shown. Raises UsageError without a terminal."""
    _require_somebody(question, instead)
    answer: str = click.prompt(
        question,
        hide_input=True,
        err=True,
        confirmation_prompt=twice,
        default="" if may_be_empty else None,
        show_default=False,
    )
    return answer


def password(*, from_stdin: bool, new: bool = False, question: str = "Password") -> str:
    """A password: typed, twice if it is a new one, or the first line of standard input."""
    if from_stdin:
        return first_line("password")
    return ask_secret(question, "--password-stdin", twice=new)


def first_line(what: str) -> str:
    """The first line of standard input."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise UsageError(f"there is no {what} on standard input")
    return line


def _require_somebody(question: str, instead: str) -> None:
    if not is_attended():
        raise UsageError(f"nobody is here to be asked for: {question}; use {instead}")
