"""Memory that a program needs, memory of a device, and the error if it runs out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

from onesided_jax.players import Device

__all__ = ["OutOfMemoryError", "is_out_of_memory", "memory_bytes", "needed_bytes"]


class OutOfMemoryError(MemoryError):
    """A device or the host has too little memory for this width."""

    def __init__(self, step: int, width: int, error: Exception):
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        remedy = (
            "a single run does not fit; use a smaller batch or network"
            if width == 1
            else f"pass width={width // 2} or less"
        )
        super().__init__(
            f"out of memory after step {step}, with {width} runs at a time on each device: "
            f"{remedy} ({reason})"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of NumPy or XLA means that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def needed_bytes(compiled: Any) -> int:
    """Memory that a compiled chunk needs on each device, in bytes; 0 if unknown."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    return (
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
    )


def memory_bytes(devices: list[Device]) -> int:
    """Memory of each device, in bytes; CPU devices share the host's memory equally."""
    stats = devices[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_control_group_limits()]) // len(devices)


def _control_group_limits() -> list[int]:
    """Memory limits of the container or batch job, in bytes (Linux cgroups v2)."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        line = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
        group = Path("/sys/fs/cgroup") / line.lstrip("/")
        for folder in [group, *group.parents]:
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / "memory.max").read_text()))
    return limits
