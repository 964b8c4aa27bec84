"""Trains one cell, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax import processes
from onesided_jax.sweeps.engine import Carry, Plan
from onesided_jax.sweeps.layout import Layout, compile_chunk, device_hyperparameters, initial_carry
from onesided_jax.sweeps.memory import OutOfMemoryError, is_out_of_memory

__all__ = ["Chunk", "Start", "train"]


class Start(NamedTuple):
    """Where training continues: the step and carry of a checkpoint, leaves ``[R, ...]``."""

    step: int
    carry: Carry


class Chunk(NamedTuple):
    """All runs after a checkpoint interval.

    Attributes:
      step: steps done.
      carry: on the devices, leaves ``[rows, ...]``; see :class:`Layout`.
      metrics: of the interval, on the host: name to ``float[R, records]``; empty at step 0.
      diverged_at: ``int32[R]``, on the host.
      seconds: wall time of the interval.
    """

    step: int
    carry: Carry
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray
    seconds: float


def train(
    plan: Plan,
    layout: Layout,
    *,
    start: Start | None = None,
    stop: Callable[[], object] = lambda: False,
) -> Iterator[Chunk]:
    """Trains all runs of a cell to the last step.

    The devices compute the next chunk while the caller uses the current one.

    Args:
      plan: the cell.
      layout: how its runs are spread over devices.
      start: where to continue; ``None`` starts a new cell and first yields its state at step 0.
      stop: called before each chunk; if it returns true, training ends there.

    Yields:
      A :class:`Chunk` after every checkpoint interval.

    Raises:
      OutOfMemoryError: if memory runs out; the message names a width to try.
    """
    step, count = (0 if start is None else start.step), len(plan.runs)
    try:
        hyperparameters = layout.spread(layout.pad(device_hyperparameters(plan.runs)))
        data = layout.copy(plan.training.game.data)
        if start is None:
            carry = initial_carry(plan, layout)
            yield Chunk(0, carry, {}, np.full(count, -1, np.int32), 0.0)
        else:
            carry = layout.spread(layout.pad(start.carry))
        began = time.perf_counter()

        def begin(carry: Carry) -> Any:
            """Starts the next chunk, unless this was the last one or ``stop`` returns true."""
            if step == plan.steps or processes.highest(bool(stop())):
                return None
            return compile_chunk(plan, layout)(carry, hyperparameters, data)

        computing = begin(carry)
        while computing is not None:
            carry, metrics = jax.block_until_ready(computing)
            step += plan.checkpoint_every
            computing = begin(carry)
            metrics, diverged_at = processes.fetch((metrics, carry.diverged_at), count)
            now = time.perf_counter()
            yield Chunk(step, carry, metrics, diverged_at, now - began)
            began = now
    except Exception as error:
        if is_out_of_memory(error) and not isinstance(error, OutOfMemoryError):
            raise OutOfMemoryError(step, layout.width, error) from error
        raise
