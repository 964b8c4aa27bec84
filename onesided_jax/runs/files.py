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
    """A file or checkpoint that the file system did not take; what was there before is whole."""


# The disk is full, over quota, mounted read-only or broken: not for want of a better argument.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def errno_of(error: BaseException) -> int | None:
    """The operating system's number of an error, also where Orbax or HDF5 wrap it in a text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"os_error_code='(\d+)'|errno = (\d+)", str(error))
    return int(found[1] or found[2]) if found else None


def write_error(path: Path, size: int, error: BaseException) -> WriteError:
    """The error of writing a file, with its path, how many bytes it is and how many are free."""
    number = errno_of(error)
    reason = str(error) or type(error).__name__ if number is None else os.strerror(number)
    folder, free = path, ""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(folder).free:,} bytes free)"
    return WriteError(f"{str(path)!r}: cannot write {size:,} bytes: {reason}{free}")


def write_json_atomically(path: Path, content: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never a part."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Writes a file by renaming a complete, flushed temporary one over it.

    Raises:
      WriteError: naming path and bytes; the old file is as it was.
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
    """Makes the bytes of a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
