"""Kills a process at the Nth of its system calls that count, whichever thread makes it.

`strace --inject` counts in each thread for itself, so it would never kill a process at, say, the
second fdatasync when another thread makes it.
"""

import ctypes
import os
import platform
import signal
import struct
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

_SEIZE, _INTERRUPT, _SYSCALL, _GET_SYSCALL_INFO = 0x4206, 0x4207, 24, 0x420E
_TRACE_SYSGOOD, _TRACE_CLONE = 1, 8
_OPTIONS = _TRACE_SYSGOOD | _TRACE_CLONE
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_IS_ENTRY = 1
_WALL = 0x40000000  # threads too

# Calls that change what others see: files, locks on them, and what is said to peers.
_X86_64 = """
1 write, 18 pwrite64, 20 writev, 44 sendto, 45 recvfrom, 46 sendmsg, 47 recvmsg, 73 flock, 74 fsync,
75 fdatasync, 77 ftruncate, 82 rename, 87 unlink, 257 openat, 263 unlinkat, 264 renameat,
285 fallocate, 296 pwritev, 316 renameat2, 328 pwritev2
"""
_AARCH64 = """
64 write, 68 pwrite64, 66 writev, 206 sendto, 207 recvfrom, 211 sendmsg, 212 recvmsg, 32 flock,
82 fsync, 83 fdatasync, 46 ftruncate, 38 renameat, 35 unlinkat, 56 openat, 47 fallocate, 70 pwritev,
276 renameat2, 287 pwritev2
"""
_TABLES = {"x86_64": _X86_64, "aarch64": _AARCH64}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, thread: int, address: int = 0, value: int | ctypes.Array = 0) -> None:
    pointer = ctypes.cast(value, ctypes.c_void_p) if isinstance(value, ctypes.Array) else value
    if _libc.ptrace(request, thread, address, pointer) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _seize(pid: int) -> None:
    """Take every thread, those included that begin meanwhile."""
    taken: set[int] = set()
    while new := {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()} - taken:
        for thread in new:
            with suppress(OSError):  # PermissionError: its parent's option took it already
                _ptrace(_SEIZE, thread, 0, _OPTIONS)
                _ptrace(_INTERRUPT, thread)
        taken |= new


def _entered(thread: int, names: dict[int, str]) -> str | None:
    """The name of the call that a stopped thread is about to make, if it counts."""
    info = (ctypes.c_char * 88)()
    _ptrace(_GET_SYSCALL_INFO, thread, len(info), info)
    operation, _, _, _, number = struct.unpack_from("=BxxxIQQQ", info.raw)
    return names.get(number) if operation == _IS_ENTRY else None


def _watched(only: str) -> dict[int, str]:
    table = _TABLES[platform.machine()].split(",")
    names = {int(number): name for number, name in map(str.split, table)}
    return {number: name for number, name in names.items() if only in {"", name}}


class _Enough(Exception):
    """Nobody wants to know more."""


def _stop(*_: object) -> NoReturn:
    raise _Enough


def trace(pid: int, nth: int, only: str, there: Connection) -> None:
    """Say `ready`, then `killed NAME` at the Nth call, just before the kernel would do it.

    With N = 0 it only counts, and says all the names when it is told to terminate. `only` is the
    only call that counts.
    """
    signal.signal(signal.SIGTERM, _stop)
    seen: list[str] = []
    try:
        _trace(pid, nth, _watched(only), seen, there)
    except _Enough:
        there.send(" ".join(seen))  # the kernel lets the threads go


def _trace(pid: int, nth: int, names: dict[int, str], seen: list[str], there: Connection) -> None:
    _seize(pid)
    there.send("ready")
    while True:
        thread, status = os.waitpid(-1, _WALL)
        if not os.WIFSTOPPED(status):
            if thread == pid:
                return
            continue
        passed_on = 0
        with suppress(ProcessLookupError):
            if os.WSTOPSIG(status) == _SYSCALL_STOP:
                if (name := _entered(thread, names)) is not None:
                    seen.append(name)
                    if len(seen) == nth:
                        os.kill(pid, signal.SIGKILL)
                        there.send(f"killed {name}")
            elif status >> 16 == 0:
                passed_on = os.WSTOPSIG(status)
            _ptrace(_SYSCALL, thread, 0, passed_on)
