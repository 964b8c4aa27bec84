"""How much memory there is, and what it looks like when there is too little."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax

__all__ = ["OutOfMemoryError", "is_out_of_memory", "memory_bytes"]


class OutOfMemoryError(MemoryError):
    """A device or the host ran out of memory during a sweep.

    Attributes:
      step: the last step that all runs have done.
    """

    def __init__(self, step: int, width: int, error: Exception):
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        super().__init__(f"out of memory after step {step}, {width} runs at a time: {reason}")
        self.step = step


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: NumPy's, or XLA's of any device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def memory_bytes(devices: int = 1) -> int:
    """Memory of one device; devices that are the host's CPU share the host's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_control_group_limits()]) // devices


def _control_group_limits() -> list[int]:
    """What a container or a batch job may use of the host (Linux, version 2 of control groups)."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        line = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
        group = Path("/sys/fs/cgroup") / line.lstrip("/")
        for folder in [group, *group.parents]:
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / "memory.max").read_text()))
    return limits
