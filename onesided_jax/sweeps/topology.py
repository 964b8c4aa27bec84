"""Descriptions of TPUs, to compile for a TPU on a machine that has none."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from onesided_jax.errors import nearest
from onesided_jax.players import Device

__all__ = ["CHIPS", "Chip", "chips_like", "find_chip", "tpu_devices"]


class Chip(NamedTuple):
    """One generation of TPUs.

    Attributes:
      memory: bytes of a chip that a program may use, from the error of libtpu 0.0.42 ("exceeds
        available HBM (15.75G)"). They differ a little from the 16, 32, 95 and 32 GB of
        https://cloud.google.com/tpu/docs/system-architecture-tpu-vm.
      grids: grids of chips, smallest first.
      options: further options for libtpu.
    """

    memory: int
    grids: tuple[str, ...]
    options: dict[str, Any]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
_GIB = 2**30

CHIPS = {
    "v4": Chip(int(30.75 * _GIB), _CUBIC, {"chip_config_name": "megacore"}),  # cores as one
    "v5e": Chip(int(15.75 * _GIB), _FLAT, {}),
    "v5p": Chip(int(95.74 * _GIB), _CUBIC, {}),
    "v6e": Chip(int(31.25 * _GIB), _FLAT, {}),
}
"""Generations of TPUs by name."""


def find_chip(topology: str) -> Chip:
    """The chip of a topology such as ``v5e:2x2``.

    Raises:
      ValueError: if there is no such topology.
    """
    name, _, grid = topology.partition(":")
    if name in CHIPS and grid in CHIPS[name].grids:
        return CHIPS[name]
    known = [f"{name}:{grid}" for name, chip in CHIPS.items() for grid in chip.grids]
    there = "; ".join(f"{name}: {', '.join(chip.grids)}" for name, chip in CHIPS.items())
    raise ValueError(
        f"topology={topology!r}: expected CHIP:GRID, of {there}{nearest(topology, known)}"
    )


def chips_like(topology: str, counts: Sequence[int]) -> list[str]:
    """Topologies of the same chip, one for each of ``counts`` chips."""
    name = topology.partition(":")[0]
    grids = find_chip(topology).grids
    sizes = {math.prod(map(int, grid.split("x"))): f"{name}:{grid}" for grid in grids}
    return [sizes[count] for count in counts]


def tpu_devices(topology: str) -> list[Device]:
    """The devices of a topology: one can compile for them, but not compute on them.

    Raises:
      ValueError: if there is no such topology.
      ImportError: without libtpu, the TPU's compiler.
    """
    from jax.experimental import topologies

    chip, grid = find_chip(topology), topology.partition(":")[2]
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("libtpu, the TPU's compiler, missing: pip install 'onesided-jax[tpu]'")
    # By default libtpu queries the cloud's metadata server, and allows one process at a time.
    for name in ("TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD"):
        os.environ.setdefault(name, "1")
    # A host holds up to four chips; libtpu must be told if it holds fewer.
    host = [min(n, most) for n, most in zip([*map(int, grid.split("x")), 1], (2, 2, 1))]
    return list(
        topologies.get_topology_desc(
            platform="tpu",
            topology_name=topology,
            chips_per_host_bounds=tuple(host),
            **chip.options,
        ).devices
    )
