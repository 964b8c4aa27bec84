"""Many runs of a game as one compiled program, checkpointed and resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual
from onesided_jax.runs import (
    CheckpointStore,
    create_or_open,
    latest_valid,
    pack,
    read_metrics,
    record_width,
    unpack,
)
from onesided_jax.sweeps.engine import METRICS, Carry, Observer, Program, program
from onesided_jax.sweeps.train import MakeOptimizer, TrainState

__all__ = ["Checkpoint", "Progress", "SweepResult", "sweep"]


class Checkpoint(NamedTuple):
    """The state of all runs at one step; host arrays with a leading run axis.

    Attributes:
      players: both players.
      state: the game's state, or ``()``.
      observers: name to accumulated state.
    """

    players: PrimalDual
    state: ArrayTree
    observers: dict[str, ArrayTree]


class SweepResult(NamedTuple):
    """What a sweep returns; every array has a leading run axis ``R``.

    Attributes:
      players: both players after the last step.
      state: the game's state after the last step, or ``()``.
      metrics: ``loss_primal``, ``loss_dual``, ``gradient_norm_primal``, ``gradient_norm_dual``
        (of the minibatch), each ``float[R, records]``; NaN once a run has diverged.
      checkpoints: step to :class:`Checkpoint`, ascending, from step 0.
      hyperparameters: name to ``float[R]``.
      seeds: ``int[R]``.
      diverged_at: ``int32[R]``, the step at which a run turned non-finite, or -1; such a run
        stays at its last finite state.
    """

    players: PrimalDual
    state: ArrayTree
    metrics: dict[str, np.ndarray]
    checkpoints: Mapping[int, Checkpoint]
    hyperparameters: dict[str, np.ndarray]
    seeds: np.ndarray
    diverged_at: np.ndarray


class Progress(NamedTuple):
    """What ``on_chunk`` is told after every chunk.

    Attributes:
      step: steps done by every run.
      steps: steps in all.
      runs: number of runs.
      diverged: how many have diverged.
      seconds: wall time of this chunk.
    """

    step: int
    steps: int
    runs: int
    diverged: int
    seconds: float


class _StoredCheckpoints(Mapping[int, Checkpoint]):
    """Checkpoints on disk, read and verified when asked for."""

    def __init__(self, store: CheckpointStore, like: Mapping[str, Any]):
        self._store, self._like = store, like

    def __getitem__(self, step: int) -> Checkpoint:
        if step not in self._store.steps():
            raise KeyError(step)
        like = {name: self._like[name] for name in Checkpoint._fields}
        return Checkpoint(**unpack(self._store.read(step), like))

    def __iter__(self) -> Iterator[int]:
        return iter(self._store.steps())

    def __len__(self) -> int:
        return len(self._store.steps())


def sweep(
    game: Game,
    make_optimizer: MakeOptimizer,
    *,
    seeds: Any,
    hyperparameters: Mapping[str, Any],
    steps: int,
    checkpoint_every: int | None = None,
    record_every: int = 1,
    out: str | os.PathLike[str] | None = None,
    observers: Mapping[str, Observer | tuple] | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    independent_samples: bool = True,
    width: int | None = None,
) -> SweepResult:
    """Trains every run of a grid at once: one vmapped program, a scan of many steps per dispatch.

    A trajectory is a function of the game, the run's seed and hyperparameters, the width and the
    platform; its slot, its neighbours, interruption and resume change no bit. A run that turns
    non-finite is frozen at its last finite state and never touches another.

    Args:
      game: what is played.
      make_optimizer: ``hyperparameters -> optax transformation``; called with scalar tracers.
      seeds: ``int[R]``, one per run.
      hyperparameters: name to ``float[R]``, zipped with ``seeds`` (see :func:`grid`).
      steps: training steps, a multiple of ``checkpoint_every``.
      checkpoint_every: steps between checkpoints, a multiple of ``record_every``; ``None``
        keeps the first and the last state only.
      record_every: steps between recorded metrics.
      out: folder for a run directory; ``None`` keeps checkpoints in memory. If it holds an
        unfinished sweep with the same plan, that one is continued.
      observers: name to ``(init, update)``, see :class:`Observer`.
      on_chunk: called with a :class:`Progress` after every chunk.
      independent_samples: see :func:`make_train`.
      width: runs per dispatch; ``None`` takes as many as fit in memory. Fewer at a time need
        less memory and give slightly different rounding.

    Returns:
      A :class:`SweepResult` of host arrays.

    Raises:
      ValueError: for mismatched lengths, bad cadences, non-finite hyperparameters, or a folder
        that holds something else.

    Example:
      >>> from onesided_jax import adam, games, grid, sweep
      >>> seeds, hyperparameters = grid(
      ...     seeds=3, primal_learning_rate=(0.01, 0.1), dual_learning_rate=0.1
      ... )
      >>> result = sweep(
      ...     games.carousel(),
      ...     lambda h: adam(**h),
      ...     seeds=seeds,
      ...     hyperparameters=hyperparameters,
      ...     steps=20,
      ... )
      >>> result.metrics["loss_primal"].shape, result.players.primal.shape
      ((6, 20), (6, 2))
    """
    seeds, hyperparameters = _check_runs(seeds, hyperparameters)
    checkpoint_every = steps if checkpoint_every is None else checkpoint_every
    _check_cadence(steps, checkpoint_every, record_every)
    run = None
    if out is not None:
        plan = plan_of(
            {"sweep": (seeds, hyperparameters)},
            steps=steps,
            checkpoint_every=checkpoint_every,
            record_every=record_every,
            independent_samples=independent_samples,
        )
        run = create_or_open(out, plan=plan, recipe=None)
        width = run.manifest["widths"].get("sweep", width)

    def on_width(chosen):
        if run is not None:
            record_width(run, "sweep", chosen)

    return run_cell(
        game,
        make_optimizer,
        seeds=seeds,
        hyperparameters=hyperparameters,
        steps=steps,
        checkpoint_every=checkpoint_every,
        record_every=record_every,
        store=None if run is None else run.store("sweep"),
        observers=observers,
        on_chunk=on_chunk,
        on_width=on_width,
        independent_samples=independent_samples,
        width=width,
    )


def plan_of(cells: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]], **fields: Any):
    """The part of a manifest that must agree for a sweep to be continued."""
    return {
        **fields,
        "cells": {
            label: {
                "seeds": seeds.tolist(),
                "hyperparameters": {k: v.tolist() for k, v in hyperparameters.items()},
            }
            for label, (seeds, hyperparameters) in cells.items()
        },
    }


def run_cell(
    game: Game,
    make_optimizer: MakeOptimizer,
    *,
    seeds: np.ndarray,
    hyperparameters: dict[str, np.ndarray],
    steps: int,
    checkpoint_every: int,
    record_every: int,
    store: CheckpointStore | None,
    observers: Mapping[str, Observer | tuple] | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    on_width: Callable[[int], None] = lambda width: None,
    on_damage: Callable[[str], None] = lambda message: None,
    independent_samples: bool = True,
    width: int | None = None,
) -> SweepResult:
    """Runs or continues one cell to its last step; see :func:`sweep` for the arguments."""
    named = tuple(
        (name, Observer(init=pair[0], update=pair[1]))
        for name, pair in sorted((observers or {}).items())
    )
    compiled = program(
        game.sample, game.field, game.init, make_optimizer, named, independent_samples, record_every
    )
    runs = len(seeds)
    if width is None:
        width = choose_width(compiled, seeds, hyperparameters, checkpoint_every)
    on_width(width)
    blocks = [np.arange(start, start + width) % runs for start in range(0, runs, width)]
    parameters = [
        {name: jnp.asarray(v[block]) for name, v in hyperparameters.items()} for block in blocks
    ]
    like = _stored(_abstract(compiled, seeds, hyperparameters))
    checkpoints: dict[int, Checkpoint] = {}
    segments: list[dict[str, np.ndarray]] = []
    seconds, done = 0.0, 0

    found = latest_valid(store) if store is not None else None
    if found is not None and store is not None:
        done, arrays, damaged = found
        for message in damaged:
            on_damage(f"{message}; continuing from step {done}")
        restored = _carry(unpack(arrays, like))
        carries = [_take(restored, block) for block in blocks]
        segments = read_metrics(
            store, done, checkpoint_every, (runs, checkpoint_every // record_every)
        )
        seconds = store.info(done)["seconds"]
    else:
        carries = [
            compiled.init(jnp.asarray(seeds[block]), block_parameters)
            for block, block_parameters in zip(blocks, parameters, strict=True)
        ]
    advance = compiled.compile(carries[0], parameters[0], checkpoint_every)

    with _Writer(store) as writer:

        def keep(step, carry, metrics):
            stored = _stored(carry)
            if store is None:
                checkpoints[step] = Checkpoint(*(stored[name] for name in Checkpoint._fields))
            else:
                writer.submit(step, pack({**stored, "metrics": metrics}), {"seconds": seconds})

        if found is None:
            keep(0, _gather(carries, runs), {})
        while done < steps:
            began = time.perf_counter()
            outputs = [advance(*block) for block in zip(carries, parameters, strict=True)]
            carries = [carry for carry, _ in outputs]
            metrics = _gather([metrics for _, metrics in outputs], runs)
            carry = _gather(carries, runs)
            elapsed = time.perf_counter() - began
            done, seconds = done + checkpoint_every, seconds + elapsed
            segments.append(metrics)
            keep(done, carry, metrics)
            if on_chunk is not None:
                diverged = int((carry.diverged_at >= 0).sum())
                on_chunk(Progress(done, steps, runs, diverged, elapsed))
    final = _gather(carries, runs)
    return SweepResult(
        players=final.train.players,
        state=final.train.state,
        metrics={k: np.concatenate([s[k] for s in segments], axis=1) for k in METRICS},
        checkpoints=checkpoints if store is None else _StoredCheckpoints(store, like),
        hyperparameters=hyperparameters,
        seeds=seeds,
        diverged_at=final.diverged_at,
    )


def choose_width(
    compiled: Program,
    seeds: np.ndarray,
    hyperparameters: Mapping[str, np.ndarray],
    chunk: int,
    *,
    memory: int | None = None,
) -> int:
    """How many runs go into one dispatch: all, or as many as the compiled program says will fit.

    The program is compiled for all runs; if its arguments, results and temporaries exceed half
    of the memory, the width is reduced in proportion.
    """
    runs = len(seeds)
    if runs == 1:
        return 1
    memory = _memory_bytes() if memory is None else memory
    carry = _abstract(compiled, seeds, hyperparameters)
    parameters = {name: jnp.asarray(v) for name, v in hyperparameters.items()}
    analysis = compiled.compile(carry, parameters, chunk).memory_analysis()
    if analysis is None:  # a backend that cannot tell
        return runs
    needed = (
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
    )
    return max(1, min(runs, int(runs * (memory / 2) / max(needed, 1))))


def _memory_bytes() -> int:
    """Memory of the device, or of the host where the device is the host's CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Writer:
    """Writes checkpoints in the order given, one at a time, while the next chunk computes."""

    def __init__(self, store: CheckpointStore | None):
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def submit(self, step: int, arrays: dict[str, Any], info: dict[str, Any]) -> None:
        """Queues one checkpoint; raises what the previous one raised."""
        if self._store is None:
            return
        self.wait()
        self._pending = self._pool.submit(self._store.write, step, arrays, info)

    def wait(self) -> None:
        """Waits for the checkpoint being written and raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._pool.shutdown(wait=True)


def _check_runs(
    seeds: Any, hyperparameters: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    seeds = np.atleast_1d(np.asarray(seeds))
    if seeds.ndim != 1 or seeds.size == 0 or not np.issubdtype(seeds.dtype, np.integer):
        raise ValueError(
            f"seeds: expected int[R] with R >= 1, got {seeds.dtype}{list(seeds.shape)}"
        )
    if seeds.min() < 0 or seeds.max() >= 2**32:
        raise ValueError("seeds: expected integers in [0, 2**32)")
    columns = {name: np.asarray(values, float) for name, values in hyperparameters.items()}
    for name, values in columns.items():
        if values.shape != seeds.shape:
            raise ValueError(
                f"hyperparameters[{name!r}] has shape {list(values.shape)}, expected "
                f"[{len(seeds)}] like seeds; grid(seeds=..., {name}=...) makes both"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"hyperparameters[{name!r}]: expected finite numbers, got {values}")
    return seeds.astype(np.uint32), columns


def _check_cadence(steps: int, checkpoint_every: int, record_every: int) -> None:
    for name, value in (
        ("steps", steps),
        ("checkpoint_every", checkpoint_every),
        ("record_every", record_every),
    ):
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise ValueError(f"{name}={value!r}: expected an integer >= 1")
    for name, whole, part_name, part in (
        ("steps", steps, "checkpoint_every", checkpoint_every),
        ("checkpoint_every", checkpoint_every, "record_every", record_every),
    ):
        if whole % part:
            raise ValueError(f"{name}={whole}: expected a multiple of {part_name}={part}")


def _abstract(compiled: Program, seeds: np.ndarray, hyperparameters: Mapping[str, Any]) -> Carry:
    return jax.eval_shape(
        compiled.init,
        jnp.asarray(seeds),
        {name: jnp.asarray(v) for name, v in hyperparameters.items()},
    )


def _stored(carry: Carry) -> dict[str, Any]:
    """The carry as it lies in a checkpoint."""
    return {
        **carry.train._asdict(),
        "observers": carry.observers,
        "diverged_at": carry.diverged_at,
    }


def _carry(stored: Mapping[str, Any]) -> Carry:
    train = TrainState(*(stored[name] for name in TrainState._fields))
    return Carry(train, stored["observers"], stored["diverged_at"])


def _gather(blocks: list[Any], runs: int) -> Any:
    """Blocks of runs as one host tree, the padding of the last block cut off; always a copy."""

    def join(*leaves):
        if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return jnp.concatenate(leaves)[:runs]
        return np.concatenate([np.asarray(leaf) for leaf in leaves])[:runs]

    return jax.tree.map(join, *blocks)


def _take(tree: Any, rows: np.ndarray) -> Any:
    def take(leaf):
        return jnp.asarray(leaf[rows]) if isinstance(leaf, np.ndarray) else leaf[rows]

    return jax.tree.map(take, tree)
