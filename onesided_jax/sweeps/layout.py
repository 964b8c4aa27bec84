"""Spreads the runs of a cell over devices, and compiles the program of a chunk."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from onesided_jax import processes
from onesided_jax.players import Device, keys_like
from onesided_jax.runs import Runs
from onesided_jax.sweeps.check import check_step
from onesided_jax.sweeps.engine import Carry, Plan, Training, program
from onesided_jax.sweeps.memory import is_out_of_memory, memory_bytes, needed_bytes

__all__ = [
    "Layout",
    "abstract_carry",
    "choose_layout",
    "compile_chunk",
    "device_hyperparameters",
    "initial_carry",
    "layout_of",
]

_RUNS = PartitionSpec("runs")
_CPU_BLOCK_BYTES = 2**26  # accessed by one step of a block (XLA's count); more overflows CPU caches


class Layout(NamedTuple):
    """How the runs of a cell are spread over devices.

    Rows are the runs in order; if they do not fill all blocks, they repeat from the first. Every
    device has ``blocks`` blocks of ``width`` rows and computes one block after the other.

    Attributes:
      devices: the devices of all processes.
      width: runs at a time on each device; rounding depends on it.
      blocks: blocks per device.
    """

    devices: tuple[Device, ...]
    width: int
    blocks: int

    @property
    def rows(self) -> int:
        """Number of runs, repeated ones included."""
        return len(self.devices) * self.blocks * self.width

    @property
    def mesh(self) -> Mesh:
        """All devices along one axis."""
        return Mesh(np.array(self.devices), ("runs",))

    def spread(self, tree: Any) -> Any:
        """Moves host arrays ``[rows, ...]`` to the devices, split along the rows."""
        sharding = NamedSharding(self.mesh, _RUNS)

        def place(leaf):
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return keys_like(place(np.asarray(jax.random.key_data(leaf))), leaf)
            return jax.device_put(leaf, sharding)

        return jax.tree.map(place, tree)

    def copy(self, tree: Any) -> Any:
        """Copies host arrays to every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def pad(self, tree: Any) -> Any:
        """Repeats arrays ``[R, ...]`` of all runs to ``[rows, ...]``."""

        def padded(leaf):
            return leaf[np.arange(self.rows) % len(leaf)]

        return jax.tree.map(padded, tree)


def layout_of(runs: int, width: int, devices: Sequence[Device]) -> Layout:
    """The layout of ``runs`` runs; a single process leaves idle devices out."""
    if jax.process_count() == 1:
        devices = devices[: math.ceil(runs / width)]
    return Layout(tuple(devices), width, math.ceil(runs / (width * len(devices))))


def choose_layout(
    plan: Plan,
    *,
    width: int | None = None,
    devices: Sequence[Device] | None = None,
    memory: int | None = None,
) -> Layout:
    """The layout of a cell with a given width, or with the largest width that fits in memory.

    On a CPU, caches limit the width too: many DCGANs side by side are slower there than one after
    the other. ``devices`` is all devices of all processes by default. ``memory`` is in bytes per
    device; by default, it is read from the device.
    """
    devices, count = jax.devices() if devices is None else devices, len(plan.runs)
    if width is None:  # the first process chooses, because memory may differ between processes
        width = int(processes.first(lambda: _choose_width(plan, devices, memory)))
    return layout_of(count, width, devices)


def _choose_width(plan: Plan, devices: Sequence[Device], memory: int | None) -> int:
    count, width = len(plan.runs), math.ceil(len(plan.runs) / len(devices))
    step_bytes = check_step(plan.training, tuple(plan.runs.hyperparameters))
    if devices[0].platform == "cpu" and step_bytes:
        width = max(1, min(width, int(_CPU_BLOCK_BYTES / step_bytes)))
    if memory is None:
        memory = memory_bytes([d for d in devices if d.process_index == jax.process_index()])
    while width > 1 and not jax.config.values["jax_disable_jit"]:
        try:
            needed = needed_bytes(compile_chunk(plan, layout_of(count, width, devices)))
        except Exception as error:
            if not is_out_of_memory(error):  # a TPU's compiler rejects a program that does not fit
                raise
            width //= 2
            continue
        return max(1, min(width, int(width * (memory / 2) / max(needed, 1))))
    return width


def initial_carry(plan: Plan, layout: Layout) -> Carry:
    """The carry of all rows before the first step, on the devices."""
    seeds, hyperparameters = layout.pad((plan.runs.seeds, device_hyperparameters(plan.runs)))
    sharding = NamedSharding(layout.mesh, _RUNS)
    return _jitted_init(plan.training, sharding)(seeds, hyperparameters)


@functools.lru_cache(maxsize=32)
def _jitted_init(training: Training, sharding: NamedSharding) -> Callable[..., Carry]:
    return jax.jit(program(training).init, out_shardings=sharding)


def device_hyperparameters(runs: Runs) -> dict[str, np.ndarray]:
    """Hyperparameters in JAX's default float dtype."""
    dtype = jnp.result_type(float)
    return {name: values.astype(dtype) for name, values in runs.hyperparameters.items()}


def abstract_carry(training: Training, names: Sequence[str], rows: int) -> tuple[Carry, Any]:
    """Shapes of the carry and hyperparameters of ``rows`` rows."""
    number = jax.ShapeDtypeStruct((rows,), jnp.result_type(float))
    hyperparameters = dict.fromkeys(names, number)
    seeds = jax.ShapeDtypeStruct((rows,), jnp.uint32)
    return jax.eval_shape(program(training).init, seeds, hyperparameters), hyperparameters


def compile_chunk(plan: Plan, layout: Layout) -> Any:
    """Compiles ``(carry, hyperparameters, data) -> (carry, metrics)`` for all devices; cached."""
    double = jax.config.values["jax_enable_x64"]
    names = tuple(plan.runs.hyperparameters)
    return _compiled(plan.training, names, layout, plan.checkpoint_every, double)


@functools.lru_cache(maxsize=32)
def _compiled(
    training: Training, names: tuple[str, ...], layout: Layout, steps: int, double: bool
) -> Any:
    del double  # part of the cache key, because dtypes depend on it
    chunk = _sharded(training, layout, steps)
    if jax.config.values["jax_disable_jit"]:
        return chunk
    carry, hyperparameters = abstract_carry(training, names, layout.rows)
    split = NamedSharding(layout.mesh, _RUNS)
    whole = NamedSharding(layout.mesh, PartitionSpec())

    def on(sharding, tree):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            tree,
        )

    data = jax.eval_shape(lambda data: data, training.game.data)  # in JAX's dtypes
    arguments = on(split, carry), on(split, hyperparameters), on(whole, data)
    lowered = jax.jit(chunk).lower(*arguments)
    return _compile(lowered, layout.devices[0].platform)


def _sharded(training: Training, layout: Layout, steps: int) -> Callable[..., Any]:
    advance = functools.partial(program(training).advance, steps)
    blocks, width = layout.blocks, layout.width

    def on_device(carry, hyperparameters, data):
        if blocks == 1:
            return advance(carry, hyperparameters, data)
        split = jax.tree.map(
            lambda leaf: leaf.reshape(blocks, width, *leaf.shape[1:]), (carry, hyperparameters)
        )
        advanced = jax.lax.map(lambda block: advance(*block, data), split)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), advanced)

    if len(layout.devices) == 1:
        return on_device  # Equinox's loops refuse shard_map
    return jax.shard_map(
        on_device,
        mesh=layout.mesh,
        in_specs=(_RUNS, _RUNS, PartitionSpec()),
        out_specs=_RUNS,
        check_vma=False,
    )


def _compile(lowered: Any, platform: str) -> Any:
    """Compiles, and turns loop fusion off if it would repeat transcendental operations.

    XLA:CPU fuses a producer into each of its consumers, so the carousel's phase is evaluated at
    every use (measured: 2.3 times slower at 4,096 runs, with observers 2.5). The decision counts
    operations instead of timing them, so it is deterministic.
    """
    compiled = lowered.compile()
    if platform != "cpu":
        return compiled
    counts = [
        (stage.cost_analysis() or {}).get("transcendentals", 0) for stage in (lowered, compiled)
    ]
    if counts[1] <= 2.5 * counts[0]:
        return compiled
    return lowered.compile(compiler_options={"xla_disable_hlo_passes": "fusion"})
