"""`entrepot admin rotate-key`: a new secret key, and everything that is sealed moved to it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from entrepot.cli.data_folder import config_option, opened, settings_of_existing
from entrepot.config import Settings
from entrepot.identity.key_file import add_key, age, alone_with, make_key_file, write_keys
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.model.clock import MINUTE, SystemClock
from entrepot.parts import key_ring, own_key_file
from entrepot.services import rotation
from entrepot.services.rotation import Finished, Rotation

# A server notices a new key within a second, and what it seals before is written within a minute.
_SETTLED = 2 * MINUTE


@click.command("rotate-key", short_help="Replace the secret key.")
@click.option("--forget-old", is_flag=True, help="Remove the old keys, once nothing needs them.")
@click.option("--lost", is_flag=True, help="The registry's key is gone for good: take this one.")
@config_option
def rotate_key(config: Path | None, *, forget_old: bool, lost: bool) -> None:
    """Replace the secret key, and seal every stored secret with the new one.

    Servers go on meanwhile and take the new key by themselves. Old keys are kept, so that what they
    signed stays good. A run that was interrupted is finished by the next one.
    """
    settings = settings_of_existing(config)
    path = own_key_file(settings)
    with alone_with(path) if path else nullcontext():
        asyncio.run(_run(settings, path, forget_old=forget_old, lost=lost))


async def _run(settings: Settings, path: Path | None, *, forget_old: bool, lost: bool) -> None:
    async with opened(settings) as database:
        if lost and path:
            make_key_file(path)
        ring = key_ring(settings, SystemClock())
        work = Rotation(database, ring)
        if lost:
            await work.accept_loss()
        if forget_old:
            await _forget_old(work, ring, path)
        else:
            await _rotate(work, ring, path, is_enough=lost)


async def _rotate(work: Rotation, ring: KeyRing, path: Path | None, *, is_enough: bool) -> None:
    """Finish what an earlier run, or whoever changed the environment, began; else begin."""
    with _progress() as progress:
        done = await work.finish(progress)
    if not done.was_needed and not is_enough:
        if path is None:
            _tell_to_add()
            return
        add_key(path, ring)
        with _progress() as progress:
            done = await work.finish(progress)
    _tell(done, ring, path)


async def _forget_old(work: Rotation, ring: KeyRing, path: Path | None) -> None:
    current, *old = ring.keys
    if not old:
        raise click.ClickException(f"there is no old key: {current.id} is the only one")
    if path and age(path, SystemClock()) < _SETTLED:
        raise click.ClickException(
            f"{path} changed less than two minutes ago, and a server may still write with an old"
            " key; try again later"
        )
    if in_use := await work.in_use():
        used = ", ".join(f"{count} with {key_id}" for key_id, count in in_use.items())
        raise click.ClickException(
            f"old keys are in use ({used}): run `entrepot admin rotate-key` first"
        )
    ids = ", ".join(key.id for key in old)
    if path is None:
        click.echo(f"nothing needs {ids}: leave {current.id} alone, on every node", err=True)
        return
    write_keys(path, [current])
    click.echo(
        f"forgot {ids}; bearer tokens signed with them are refused, and clients fetch new ones",
        err=True,
    )


@contextmanager
def _progress() -> Iterator[rotation.Progress]:
    """A bar, on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("sealing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("sealing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell_to_add() -> None:
    click.echo(
        "the secret key comes from ENTREPOT_SECRET_KEY or ENTREPOT_SECRET_KEY_FILE, which this"
        " command cannot write. Here is a new one: put it before the old one, on a line of its own"
        " or with a comma between them, on every node; start the nodes anew unless they read it"
        " from a file; then run this again with the same setting",
        err=True,
    )
    click.echo(SecretKey.new().text)


def _tell(done: Finished, ring: KeyRing, path: Path | None) -> None:
    click.echo(f"the secret key is {ring.current.id}; sealed anew: {done.resealed}", err=True)
    if done.unreadable_count:
        names = ", ".join(done.unreadable)
        click.echo(
            f"warning: {done.unreadable_count} stored secrets cannot be opened with any key here;"
            f" enter them again: {names}",
            err=True,
        )
    if path:
        click.echo(f"servers take it by themselves; next: back up {path}", err=True)
    if len(ring.keys) > 1:
        click.echo(
            "old keys are kept for bearer tokens that they signed; in an hour: "
            "entrepot admin rotate-key --forget-old",
            err=True,
        )
