"""What happens to files on disks: one function per kind of damage, all reversible by the caller."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

__all__ = ["DAMAGE", "files_of"]


def flip_bit(path: Path, rng: random.Random) -> None:
    """One bit, anywhere."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    """The end is missing: what a power cut leaves of a file that was never flushed."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def zero(path: Path, rng: random.Random) -> None:
    """The right length, and nothing but zeros."""
    path.write_bytes(bytes(path.stat().st_size))


def remove(path: Path, rng: random.Random) -> None:
    """No file."""
    path.unlink()


def overwrite(path: Path, rng: random.Random) -> None:
    """A page of something else."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + 4096] = rng.randbytes(len(content[start : start + 4096]))
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "bit flipped": flip_bit,
    "truncated": truncate,
    "zeroed": zero,
    "missing": remove,
    "overwritten": overwrite,
}


def files_of(folder: Path) -> list[Path]:
    """Every file of a checkpoint that has a byte to damage."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
