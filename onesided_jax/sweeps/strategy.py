"""How the runs of a cell are laid out: on how many devices, and how many at a time on each."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax import processes
from onesided_jax.players import Device
from onesided_jax.sweeps.devices import Crew
from onesided_jax.sweeps.engine import Carry, Program
from onesided_jax.sweeps.memory import memory_bytes

__all__ = [
    "Strategy",
    "abstract_carry",
    "blocks_of",
    "choose_strategy",
    "choose_together",
    "fitting_width",
    "needed_bytes",
    "start",
]

_NARROWER = 4  # each layout tried has a quarter of the width of the one before
_GAIN = 0.97  # and must take less than this share of its time to be preferred
_LONG_SECONDS = 60.0  # what a sweep must take at the least before layouts are timed
_FLOPS, _BYTES = 1e11, 2e10  # per second and device: more than a CPU does, so the above is safe
_PROBE_STEPS = 10
_PROBE_SECONDS = 0.5


class Strategy(NamedTuple):
    """How the runs of a cell are laid out.

    Attributes:
      width: runs per device and dispatch, ``W``: a trajectory's bits depend on it.
      devices: the devices that run side by side; no bit depends on them.
      measured: seconds per step of all runs for every layout that was timed, keyed
        ``"DxW"``; empty if nothing was timed.
    """

    width: int
    devices: tuple[Device, ...]
    measured: dict[str, float]


def choose_strategy(
    program: Program,
    seeds: np.ndarray,
    hyperparameters: Mapping[str, np.ndarray],
    *,
    steps: int,
    chunk: int,
    record_every: int,
    devices: Sequence[Device],
    width: int | None = None,
    memory: int | None = None,
) -> Strategy:
    """Chooses the width, and how many devices.

    All devices, and all runs at once if the compiled program says that they fit into half of the
    memory. Only where the program's own count of operations shows that the sweep will take more
    than a minute, narrower layouts are timed too (a few steps of each), and the fastest is taken:
    on a CPU the batches of a few networks stay in its caches, those of many do not.

    Args:
      program: the cell's.
      seeds: ``uint32[R]``.
      hyperparameters: name to ``float[R]``.
      steps: training steps of the whole sweep.
      chunk: steps per dispatch.
      record_every: steps between recorded metrics.
      devices: what there is.
      width: a width that is already settled.
      memory: bytes that a device has; ``None`` asks it.
    """
    runs = len(seeds)
    if width is not None:
        return Strategy(width, tuple(devices[: math.ceil(runs / width)]), {})
    devices = tuple(devices[:runs])
    width = math.ceil(runs / len(devices))
    carry = abstract_carry(program, seeds, hyperparameters, width)
    compiled = program.compile(*carry, chunk, devices[0])
    available = memory_bytes(len(devices)) if memory is None else memory
    width = fitting_width(width, needed_bytes(compiled), available)
    cost = compiled.cost_analysis() or {}
    rounds = math.ceil(runs / (width * len(devices)))
    per_step = max(cost.get("flops", 0.0) / _FLOPS, cost.get("bytes accessed", 0.0) / _BYTES)
    if runs == 1 or steps * rounds * per_step < _LONG_SECONDS:
        return Strategy(width, devices, {})
    measured: dict[str, float] = {}
    # Long enough for what a dispatch costs not to count, however small the game.
    wanted = max(_PROBE_STEPS, math.ceil(_PROBE_SECONDS / (2 * per_step * rounds)))
    probe = min(chunk, record_every * math.ceil(wanted / record_every))

    def timed(devices: tuple[Device, ...], width: int) -> float:
        seconds = _probe(program, seeds, hyperparameters, width, probe, devices)
        measured[f"{len(devices)}x{width}"] = float(f"{seconds:.4g}")
        return seconds

    best = timed(devices, width)
    while width > 1:
        narrower = max(1, width // _NARROWER)
        found = timed(devices, narrower)
        if found > _GAIN * best:
            break
        best, width = found, narrower
    if len(devices) > 1 and timed(devices[:1], width) < _GAIN * best:
        devices = devices[:1]
    return Strategy(width, devices, measured)


def choose_together(
    program: Program,
    seeds: np.ndarray,
    hyperparameters: Mapping[str, np.ndarray],
    *,
    devices: Sequence[Device],
    **options: Any,
) -> Strategy:
    """As `choose_strategy`, of several processes: the first chooses, for its share of the runs.

    All are taken to have devices of the same kind, and each its own number of them.
    """
    share = math.ceil(len(seeds) / processes.count())

    def choose() -> tuple[int, int, dict[str, float]]:
        shared = {name: values[:share] for name, values in hyperparameters.items()}
        chosen = choose_strategy(program, seeds[:share], shared, devices=devices, **options)
        return chosen.width, len(chosen.devices), chosen.measured

    width, used, measured = processes.first(choose)
    return Strategy(width, tuple(devices[:used]), measured)


def fitting_width(width: int, needed: int, memory: int) -> int:
    """So many runs at a time, or as many as fit into half of the memory.

    Args:
      width: runs.
      needed: bytes that they need at a time.
      memory: bytes that there are.
    """
    return max(1, min(width, int(width * (memory / 2) / max(needed, 1))))


def needed_bytes(compiled: Any) -> int:
    """What a compiled chunk needs of its device; 0 if it does not say.

    Its outputs take the place of its arguments, which are donated, but are copied for the host.
    """
    found = compiled.memory_analysis()
    if found is None:
        return 0
    parts = (found.temp_size_in_bytes, found.argument_size_in_bytes, found.output_size_in_bytes)
    return sum(parts)


def _probe(
    program: Program,
    seeds: np.ndarray,
    hyperparameters: Mapping[str, np.ndarray],
    width: int,
    steps: int,
    devices: tuple[Device, ...],
) -> float:
    """Seconds per step of all runs: one block on each device, the best of a few dispatches."""
    blocks = blocks_of(len(seeds), width)
    shown = blocks[: len(devices)]
    with Crew(program, hyperparameters, shown, steps, devices) as crew:
        carries = crew.place([start(program, seeds, hyperparameters, block) for block in shown])
        carries, _ = crew.finish(crew.start(carries))  # compiles
        best, end = math.inf, time.perf_counter() + _PROBE_SECONDS
        while True:
            began = time.perf_counter()
            carries, _ = crew.finish(crew.start(carries))
            now = time.perf_counter()
            best = min(best, now - began)
            if now > end:
                return best / steps * math.ceil(len(blocks) / len(shown))


def blocks_of(runs: int, width: int) -> list[np.ndarray]:
    """Which runs are in which block; the last one is filled up with the first runs."""
    return [np.arange(start, start + width) % runs for start in range(0, runs, width)]


def start(
    program: Program,
    seeds: np.ndarray,
    hyperparameters: Mapping[str, np.ndarray],
    block: np.ndarray,
) -> Carry:
    """A block's carry before the first step."""
    parameters = {name: jnp.asarray(v[block]) for name, v in hyperparameters.items()}
    return program.init(jnp.asarray(seeds[block]), parameters)


def abstract_carry(
    program: Program, seeds: np.ndarray, hyperparameters: Mapping[str, Any], runs: int
) -> tuple[Carry, dict[str, jax.ShapeDtypeStruct]]:
    """Shapes of a carry of so many runs, and of their hyperparameters."""
    shape = (runs,)
    parameters = {
        name: jax.ShapeDtypeStruct(shape, jnp.asarray(v[:1]).dtype)
        for name, v in hyperparameters.items()
    }
    return jax.eval_shape(
        program.init, jax.ShapeDtypeStruct(shape, jnp.uint32), parameters
    ), parameters
