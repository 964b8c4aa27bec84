"""Compiling a sweep for a TPU without one: what fits, what it moves, what chips say to each other.

The program is the one that :func:`onesided_jax.sweeps.run` runs, the compiler the TPU's own.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from onesided_jax.players import Device
from onesided_jax.runs import Cell, Recipe, build_game, cells, numerics
from onesided_jax.runs._values import check_count
from onesided_jax.sweeps.engine import Program, program
from onesided_jax.sweeps.memory import is_out_of_memory
from onesided_jax.sweeps.strategy import abstract_carry, fitting_width, needed_bytes
from onesided_jax.sweeps.topology import chips_like, find_chip, tpu_devices

__all__ = ["SCALES", "CompiledCell", "collectives", "compile_for", "weak_scaling"]

SCALES = (1, 4, 16, 64, 256)
"""Numbers of chips of a `weak_scaling`."""

_COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
_GOAL, _CLOSE = 0.98, 0.93  # of the memory: what to aim at, and what is near enough
_ATTEMPTS = 5


class CompiledCell(NamedTuple):
    """What the compiler says of the program of one cell.

    Attributes:
      cell: label.
      topology: what it was compiled for.
      chips: how many chips share in the program.
      width: runs on each chip at a time.
      seconds: of compiling, tracing included.
      needed: bytes on each chip: temporaries, arguments and outputs. (The outputs take the place of
        the arguments, which are donated, but are copied for the host.)
      memory: bytes that a chip has.
      flops: operations of one step of one run.
      bytes_accessed: bytes moved by one step of one run.
      collectives: operations between chips by name, how many.
      largest: the most runs on one chip that were seen to compile and fit; 0 if not looked for.
    """

    cell: str
    topology: str
    chips: int
    width: int
    seconds: float
    needed: int
    memory: int
    flops: float
    bytes_accessed: float
    collectives: dict[str, int]
    largest: int = 0


def compile_for(
    recipe: Recipe,
    topology: str,
    *,
    runs: int | None = None,
    width: int | None = None,
    largest: bool = True,
    on_cell: Callable[[CompiledCell], object] = lambda found: None,
) -> list[CompiledCell]:
    """Compiles every cell of a recipe for a TPU, as a sweep there does; no TPU is needed.

    A sweep gives each chip the same program, which knows of no other chip. That one is compiled
    here; `weak_scaling` compiles a single program for all chips.

    Args:
      recipe: what is to be run.
      topology: chip and grid, from ``"v5e:1x1"``, what Colab has, to ``"v5e:16x16"``.
      runs: runs of each cell; ``None`` takes the recipe's own. Only shapes depend on it.
      width: runs at a time on each chip; ``None`` plans it from memory as a sweep does.
      largest: find the most runs that fit on one chip too, which takes a few compilations more.
      on_cell: called with each result as soon as it is there.

    Returns:
      A `CompiledCell` for each cell.

    Raises:
      ValueError: for a topology that does not exist, or runs that do not fit on a chip.
      ImportError: without libtpu, the compiler (the extra ``tpu``).

    Example:
      >>> from onesided_jax.runs import RECIPES
      >>> from onesided_jax.sweeps import compile_for
      >>> compile_for(RECIPES["ring"], "v5e:2x3")
      Traceback (most recent call last):
      ...
      ValueError: topology='v5e:2x3': expected CHIP:GRID, ...
    """
    chip = find_chip(topology)
    for name, count in (("runs", runs), ("width", width)):
        if count is not None:
            check_count(name, count)
    devices = tpu_devices(topology)
    found = []
    with numerics(recipe), _not_cached():
        for cell, compiled in _programs(recipe):
            count = len(cell.seeds) if runs is None else runs
            tried: dict[int, CompiledCell | None] = {}

            def at(width: int, cell=cell, compiled=compiled, tried=tried):
                """The cell at a width, or None if the compiler refuses it."""
                if width not in tried:
                    tried[width] = _compile(compiled, cell, recipe, topology, width, devices[:1])
                return tried[width]

            report = at(width) if width else _planned(at, math.ceil(count / len(devices)))
            if report is None or report.needed > chip.memory:
                raise _too_many(cell, topology, width or 1, _largest(at, at(1)))
            found.append(report._replace(largest=_largest(at, report) if largest else 0))
            on_cell(found[-1])
    return found


def weak_scaling(
    recipe: Recipe,
    topology: str,
    *,
    width: int | None = None,
    on_cell: Callable[[CompiledCell], object] = lambda found: None,
) -> list[CompiledCell]:
    """Compiles one program for 1, 4, 16, 64 and 256 chips, with as many runs on each.

    A sweep gives each chip a program of its own (`compile_for`). Here the same steps are put into
    one program that all chips run together, so that the compiler sees the whole machine: bytes and
    operations of a chip must not depend on how many there are, and chips must not wait for each
    other.

    Args:
      recipe: what is to be run.
      topology: its chip is taken, its grid is not.
      width: runs on each chip; ``None`` takes as many as the recipe has.
      on_cell: called with each result as soon as it is there.

    Returns:
      A `CompiledCell` for each cell and number of chips.

    Raises:
      ValueError: for a topology that does not exist, or runs that do not fit on a chip.
      ImportError: without libtpu, the compiler (the extra ``tpu``).
    """
    found = []
    if width is not None:
        check_count("width", width)
    grids = chips_like(topology, SCALES)
    devices = {grid: tpu_devices(grid) for grid in grids}
    with numerics(recipe), _not_cached():
        for cell, compiled in _programs(recipe):
            for grid in grids:
                report = _compile(
                    compiled, cell, recipe, grid, width or len(cell.seeds), devices[grid]
                )
                if report is None:
                    raise _too_many(cell, grid, width or len(cell.seeds))
                found.append(report)
                on_cell(report)
    return found


def collectives(compiled: Any) -> dict[str, int]:
    """The operations between devices in a compiled program, by name, how many.

    Example:
      >>> import jax
      >>> collectives(jax.jit(lambda x: x + 1).lower(1.0).compile())
      {}
    """
    return dict(sorted(Counter(_COLLECTIVE.findall(compiled.as_text())).items()))


@contextlib.contextmanager
def _not_cached() -> Iterator[None]:
    """JAX's cache writes programs for chips that are not there, but cannot read them back."""
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # it looks at the setting once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _programs(recipe: Recipe) -> list[tuple[Cell, Program]]:
    game = build_game(recipe.game, recipe.precision)
    options = ((), recipe.independent_samples, recipe.record_every)
    return [
        (cell, program(game.sample, game.field, game.init, cell.make_optimizer, *options))
        for cell in cells(recipe)
    ]


def _compile(
    compiled: Program,
    cell: Cell,
    recipe: Recipe,
    topology: str,
    width: int,
    devices: Sequence[Device],
) -> CompiledCell | None:
    """One cell for one chip, or split over several; ``None`` if memory does not suffice."""
    began = time.perf_counter()
    arguments = abstract_carry(compiled, cell.seeds, cell.hyperparameters, width * len(devices))
    try:
        if len(devices) == 1:
            there = compiled.compile(*arguments, recipe.checkpoint_every, devices[0])
        else:
            there = _together(compiled, arguments, recipe.checkpoint_every, devices)
    except Exception as error:
        if is_out_of_memory(error):
            return None
        raise
    cost = there.cost_analysis() or {}
    # The compiler counts a loop's body once; there are two loops where not every step is recorded.
    steps = width * (2 if recipe.record_every > 1 else 1)
    return CompiledCell(
        cell=cell.label,
        topology=topology,
        chips=len(devices),
        width=width,
        seconds=time.perf_counter() - began,
        needed=needed_bytes(there),
        memory=find_chip(topology).memory,
        flops=cost.get("flops", 0.0) / steps,
        bytes_accessed=cost.get("bytes accessed", 0.0) / steps,
        collectives=collectives(there),
    )


def _too_many(cell: Cell, topology: str, width: int, most: int | None = None) -> ValueError:
    chip = f"{find_chip(topology).memory / 2**30:g} GiB of a {topology.partition(':')[0]} chip"
    expected = "fewer" if most is None else f"at most {most}"
    return ValueError(
        f"width={width}: so many runs of {cell.label!r} do not fit into the {chip}, "
        f"expected {expected}"
    )


def _together(
    compiled: Program, arguments: Any, steps: int, devices: Sequence[Device]
) -> jax.stages.Compiled:
    """One program in which every device advances its share of the runs."""
    mesh, runs = Mesh(np.array(devices), ("runs",)), PartitionSpec("runs")
    advance = jax.shard_map(
        functools.partial(compiled.advance, steps),
        mesh=mesh,
        in_specs=runs,
        out_specs=runs,
        check_vma=False,
    )
    there = NamedSharding(mesh, runs)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there), arguments
    )
    return jax.jit(advance, donate_argnums=0).lower(*shapes).compile()


_At = Callable[[int], CompiledCell | None]


def _planned(at: _At, width: int) -> CompiledCell | None:
    """The width of a sweep of so many runs a chip: halved while it is refused, then planned."""
    report = at(width)
    while report is None and width > 1:
        width //= 2
        report = at(width)
    if report is None:
        return None
    return at(fitting_width(width, report.needed, report.memory))


def _largest(at: _At, first: CompiledCell | None) -> int:
    """The most runs that are seen to fit, where the line through two widths says to look."""
    if first is None or first.needed > first.memory:
        return 0
    goal, best, before = _GOAL * first.memory, first, first
    width = max(first.width + 1, int(first.width * goal / first.needed / 4))
    for _ in range(_ATTEMPTS):
        report = at(width)
        if report is None:
            width = (best.width + width) // 2
            continue
        if best.width < width and report.needed <= report.memory:
            best = report
            if report.needed > _CLOSE * report.memory:
                break
        slope = (report.needed - before.needed) / (report.width - before.width)
        width, before = int(report.width + (goal - report.needed) / slope), report
        if width == before.width:
            break
    return best.width
