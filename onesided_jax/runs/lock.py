"""One writer per run directory: ``flock``, and a record of who holds it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["LockedError", "lock"]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class LockedError(ValueError):
    """Another process writes, or may write, to the same folder."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock file during a block.

    Processes of one host use ``flock``. The kernel releases it when its holder dies, so a lock left
    by ``kill -9`` is taken over. The file names its holder: host, process and time. On a network
    file system ``flock`` may not reach other hosts, and some file systems lack it. There, a file
    that names a holder counts as a lock, and the error says how to remove it.

    Args:
      path: the lock file, in an existing folder. It is removed at the end.

    Raises:
      LockedError: if another process holds the lock; names it and says what to do.
      OSError: if the file cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, lock(Path(folder) / "lock"):
      ...     with lock(Path(folder) / "lock"):
      ...         pass
      Traceback (most recent call last):
      ...
      onesided_jax.runs.lock.LockedError: ... is in use by process ... on this host...
    """
    handle = _acquire(path)
    try:
        yield
    finally:
        # Unlink before releasing, so that a process that opened the old file notices (_acquire).
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(handle, path)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, json.dumps(owner).encode(), 0)
                    os.fsync(handle)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the holder removed the file between open and flock: open the new one


def _take(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        supported = True
    except BlockingIOError:
        raise LockedError(f"{str(path.parent)!r} is in use by {_named(_owner(handle))}") from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        supported = False
    owner = _owner(handle)
    if owner and not (supported and owner.get("host") == socket.gethostname()):
        raise LockedError(
            f"{str(path.parent)!r} is locked by {_named(owner)}. If that process no longer runs, "
            f"remove the lock and try again: rm {shlex.quote(str(path))}"
        )


def _owner(handle: int) -> dict[str, Any]:
    """The holder that the file names; empty if there is none or a kill cut the record off."""
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _named(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    here = owner.get("host") == socket.gethostname()
    host = "this host" if here else f"host {owner.get('host')!r}"
    since = ""
    with contextlib.suppress(KeyError, TypeError, ValueError, OSError, OverflowError):
        moment = datetime.datetime.fromtimestamp(owner["since"], datetime.UTC)
        since = f"; since {moment.isoformat(sep=' ', timespec='seconds')}"
    return f"process {owner.get('pid')} on {host}{since}"
