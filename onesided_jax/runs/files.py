"""Small helpers for error messages and atomic files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any


class WriteError(OSError):
    """A file or checkpoint could not be written; older files are unchanged."""


# The disk is full, over quota, read-only or broken: no argument of the caller is wrong.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def errno_of(error: BaseException) -> int | None:
    """The ``errno`` of an error, also if Orbax or HDF5 hide it in a message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"os_error_code='(\d+)'|errno = (\d+)", str(error))
    return int(found[1] or found[2]) if found else None


def write_error(path: Path, size: int, error: BaseException) -> WriteError:
    """Makes a `WriteError` that names the path, its size and the free space, in bytes."""
    number = errno_of(error)
    reason = str(error) or type(error).__name__ if number is None else os.strerror(number)
    folder, free = path, ""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(folder).free:,} bytes free)"
    return WriteError(f"{str(path)!r}: cannot write {size:,} bytes: {reason}{free}")


def write_json_atomically(path: Path, content: Any) -> None:
    """Writes JSON as `write_bytes_atomically` does."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Writes a file by renaming a complete, flushed temporary one over it.

    Raises:
      WriteError: if the file system fails; names path and bytes. The old file is unchanged.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        flush(path.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        if isinstance(error, OSError):
            raise write_error(path, len(content), error) from error
        raise


def flush(path: Path) -> None:
    """Flushes a file or folder to disk (``fsync``)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
