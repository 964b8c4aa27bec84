"""One writer per run directory: an operating system lock, and beside it who holds it."""

from __future__ import annotations

import contextlib
import datetime
import errno
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
    """Another process is writing, or may be, where this one was asked to write."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock file for a block; it goes with the process, however that ends.

    ``flock`` decides between processes of one host: the kernel lets go of it when the holder dies,
    so a lock left by ``kill -9`` is simply taken over. The file holds its owner (host, process id,
    since when) for the error message, and for the two places where ``flock`` does not decide: a
    file system without it, where a dead owner of this host is recognised by its process id; and
    several hosts on a network file system, where many setups keep ``flock`` to themselves. An
    owner on another host is therefore never overruled.

    Args:
      path: the lock file; its folder exists. It is removed in the end.

    Raises:
      LockedError: naming the owner, and what to do about it; OSError: if the file cannot be
        written.

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
        # Removed while it is held: whoever opened the old file notices (see _acquire).
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(handle, path)
            if _is(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the holder removed the file between open and flock


def _take(handle: int, path: Path) -> None:
    decided = _flock(handle)
    owner = _read(handle)
    if decided is False:
        raise LockedError(_message(path, owner, "is in use by"))
    if owner is not None and owner.get("host") != socket.gethostname():
        raise LockedError(
            f"{_message(path, owner, 'is locked by')}. If that process no longer runs, "
            f"remove the lock and try again: rm {shlex.quote(str(path))}"
        )
    if decided is None and owner is not None and _alive(owner):
        raise LockedError(_message(path, owner, "is in use by"))
    if _is(handle, path):
        content = json.dumps(_me()).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
        os.fsync(handle)


def _flock(handle: int) -> bool | None:
    """Whether the lock was free; ``None`` on a file system that has no locks."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _is(handle: int, path: Path) -> bool:
    """Whether the open file is still the one that the name stands for."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}


def _alive(owner: dict[str, Any]) -> bool:
    """Whether a process of this host has the owner's number; true where it cannot be told."""
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, KeyError, TypeError, OverflowError):
        return True
    return True


def _read(handle: int) -> dict[str, Any] | None:
    """The owner in the file; ``None`` where there is none (a kill can leave half a record)."""
    try:
        owner = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return None
    return owner if isinstance(owner, dict) else None


def _message(path: Path, owner: dict[str, Any] | None, what: str) -> str:
    where = f"{str(path.parent)!r} {what} "
    if owner is None:
        return f"{where}another process"
    here = owner.get("host") == socket.gethostname()
    host = "this host" if here else f"host {owner.get('host')!r}"
    since = ""
    with contextlib.suppress(KeyError, TypeError, ValueError, OSError, OverflowError):
        moment = datetime.datetime.fromtimestamp(owner["since"], datetime.UTC)
        since = f"; since {moment.isoformat(sep=' ', timespec='seconds')}"
    return f"{where}process {owner.get('pid')} on {host}{since}"
