"""Processes that begin with everything imported: forks of one that has read our modules once.

For tests that start a server or a command again and again: most of a start is reading modules.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

_MODULES = [
    *("granian.server.mp", "uvloop", "entrepot.app", "entrepot.db.postgres", "entrepot.db.sqlite"),
    *("entrepot.cli.main", "entrepot.cli.serve", "entrepot.cli.gc", "entrepot.cli.rotate_key"),
    *("entrepot.cli.doctor.command", "entrepot.cli.fsck", "tests.support.forked_command"),
    *("tests.support.quick_starts", "tests.support.told_command", "tests.support.kill_at"),
]


def forking() -> ForkServerContext:
    """Where such processes are made."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    return context
