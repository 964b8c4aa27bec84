"""Compiles a sweep for a TPU on a machine without one: memory, traffic and collectives.

The TPU's own compiler compiles the same program that :func:`onesided_jax.sweeps.run` runs.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from onesided_jax.errors import check_count
from onesided_jax.runs import Recipe, build_game, cells, numerics
from onesided_jax.sweeps.engine import Plan
from onesided_jax.sweeps.layout import Layout, choose_layout, compile_chunk
from onesided_jax.sweeps.memory import is_out_of_memory, needed_bytes
from onesided_jax.sweeps.recipes import plan_cell
from onesided_jax.sweeps.topology import chips_like, find_chip, tpu_devices

__all__ = ["SCALES", "CompiledCell", "collectives", "compile_for", "weak_scaling"]

SCALES = (1, 4, 16, 64, 256)
"""Numbers of chips in `weak_scaling`."""

_COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
_GOAL, _CLOSE = 0.98, 0.93  # fractions of the memory: the target, and near enough to stop
_ATTEMPTS = 5


class CompiledCell(NamedTuple):
    """The compiler's report on the program of one cell.

    Attributes:
      cell: label.
      topology: the topology.
      chips: number of chips.
      width: runs at a time on each chip.
      seconds: compile time, tracing included.
      needed: bytes on each chip: temporaries, arguments and outputs.
      memory: memory of a chip in bytes.
      flops: operations of one step of one run.
      bytes_accessed: bytes moved by one step of one run.
      collectives: name to number of the operations between chips.
      largest: the most runs found to compile and fit on one chip; 0 if not searched.
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
    """Compiles every cell of a recipe for a TPU, exactly as a sweep does; no TPU is needed.

    Args:
      recipe: the recipe.
      topology: chip and grid, from ``"v5e:1x1"`` (Colab) to ``"v5e:16x16"``.
      runs: runs of each cell; ``None`` takes the recipe's own number.
      width: runs at a time on each chip; ``None`` plans it from memory as a sweep does.
      largest: also find the most runs that fit on one chip, with a few more compilations.
      on_cell: called with each result as soon as it is known.

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
        for label, plan in _plans(recipe, runs):
            layout = choose_layout(plan, width=width, devices=devices, memory=chip.memory)
            report = _compile(label, plan, layout, topology)

            @functools.cache
            def on_one_chip(width: int, label: str = label, plan: Plan = plan):
                return _compile(label, plan, Layout(tuple(devices[:1]), width, 1), topology)

            if report is None or report.needed > chip.memory:
                raise _too_many(label, topology, layout.width, _largest(on_one_chip))
            found.append(report._replace(largest=_largest(on_one_chip) if largest else 0))
            on_cell(found[-1])
    return found


def weak_scaling(
    recipe: Recipe,
    topology: str,
    *,
    width: int | None = None,
    on_cell: Callable[[CompiledCell], object] = lambda found: None,
) -> list[CompiledCell]:
    """Compiles a sweep for 1, 4, 16, 64 and 256 chips, with the same number of runs on each.

    Ideally, memory and operations per chip do not depend on the number of chips, and there are no
    collectives.

    Args:
      recipe: the recipe.
      topology: only its chip is used, not its grid.
      width: runs on each chip; ``None`` takes as many as the recipe has.
      on_cell: called with each result as soon as it is known.

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
        for label, plan in _plans(recipe):
            each = width or len(plan.runs)
            for grid in grids:
                layout = Layout(tuple(devices[grid]), each, 1)
                report = _compile(label, plan, layout, grid)
                if report is None:
                    raise _too_many(label, grid, each)
                found.append(report)
                on_cell(report)
    return found


def collectives(compiled: Any) -> dict[str, int]:
    """Counts the operations between devices in a compiled program, by name.

    Example:
      >>> import jax
      >>> collectives(jax.jit(lambda x: x + 1).lower(1.0).compile())
      {}
    """
    return dict(sorted(Counter(_COLLECTIVE.findall(compiled.as_text())).items()))


@contextlib.contextmanager
def _not_cached() -> Iterator[None]:
    """Turns JAX's compilation cache off: it cannot read programs for absent chips back."""
    before = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # the cache reads the setting only once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _plans(recipe: Recipe, runs: int | None = None) -> list[tuple[str, Plan]]:
    """The label and plan of each cell of a recipe, with ``runs`` runs if given."""
    game, plans = build_game(recipe.game, recipe.precision), []
    for cell in cells(recipe):
        rows = np.arange(len(cell.runs) if runs is None else runs) % len(cell.runs)
        plans.append(
            (cell.label, plan_cell(recipe, game, cell._replace(runs=cell.runs.take(rows))))
        )
    return plans


def _compile(label: str, plan: Plan, layout: Layout, topology: str) -> CompiledCell | None:
    """Compiles one cell for a TPU; ``None`` if it does not fit in memory."""
    began = time.perf_counter()
    try:
        compiled = compile_chunk(plan, layout)
    except Exception as error:
        if is_out_of_memory(error):
            return None
        raise
    cost = compiled.cost_analysis() or {}
    # The compiler counts a loop's body once. With record_every > 1 there are two loops.
    steps = layout.width * (2 if plan.training.record_every > 1 else 1)
    return CompiledCell(
        cell=label,
        topology=topology,
        chips=len(layout.devices),
        width=layout.width,
        seconds=time.perf_counter() - began,
        needed=needed_bytes(compiled),
        memory=find_chip(topology).memory,
        flops=cost.get("flops", 0.0) / steps,
        bytes_accessed=cost.get("bytes accessed", 0.0) / steps,
        collectives=collectives(compiled),
    )


def _too_many(label: str, topology: str, width: int, most: int | None = None) -> ValueError:
    chip = f"{find_chip(topology).memory / 2**30:g} GiB of a {topology.partition(':')[0]} chip"
    expected = "fewer" if most is None else f"at most {most}"
    return ValueError(
        f"width={width}: too many runs of {label!r} for the {chip}, expected {expected}"
    )


def _largest(at: Callable[[int], CompiledCell | None]) -> int:
    """Searches the largest width that fits on a chip: memory is nearly linear in the width."""
    first = at(1)
    if first is None or first.needed > first.memory:
        return 0
    goal, best, before = _GOAL * first.memory, first, first
    width = max(2, int(goal / first.needed / 4))
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
