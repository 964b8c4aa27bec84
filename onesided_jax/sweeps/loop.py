"""Many runs of a game as one compiled program, checkpointed and resumable."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax.games import Game
from onesided_jax.players import Device
from onesided_jax.runs import (
    Run,
    numerics,
    record_program,
    record_session,
    record_width,
    writing,
)
from onesided_jax.runs._values import check_count, check_divides, check_name
from onesided_jax.sweeps.cell import run_cell
from onesided_jax.sweeps.contract import check_ranges, check_step
from onesided_jax.sweeps.engine import Observer, named_observers
from onesided_jax.sweeps.result import Progress, SweepResult
from onesided_jax.sweeps.strategy import Strategy
from onesided_jax.sweeps.train import MakeOptimizer

__all__ = ["begin_session", "keep_strategy", "plan_of", "sweep", "warn"]


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
    devices: Sequence[Device] | None = None,
) -> SweepResult:
    """Trains every run of a grid at once: one vmapped program, a scan of many steps per dispatch.

    A trajectory is a function of the game, the run's seed and hyperparameters, the width and the
    platform; its slot, its neighbours, interruption and resume change no bit. A run that turns
    non-finite is frozen at its last finite state and never touches another. Of several processes
    (``jax.distributed.initialize()`` before anything else) all call this with the same arguments;
    each trains its share of the runs, and all return all of them.

    Args:
      game: what is played.
      make_optimizer: ``hyperparameters -> optax transformation``; called with scalar tracers.
      seeds: ``int[R]``, one per run. Runs with the same seed and hyperparameters are copies of each
        other; an analysis counts them once.
      hyperparameters: name to ``float[R]``, zipped with ``seeds`` (see :func:`grid`).
      steps: training steps, a multiple of ``checkpoint_every``.
      checkpoint_every: steps between checkpoints, a multiple of ``record_every``; ``None``
        keeps the first and the last state only.
      record_every: steps between recorded metrics.
      out: folder for a run directory; ``None`` keeps checkpoints in memory. If it holds an
        unfinished sweep of the same game, optimizer and observers with the same plan, that one is
        continued.
      observers: name to ``(init, update)``, see :class:`Observer`.
      on_chunk: called with a :class:`Progress` after every chunk.
      independent_samples: see :func:`make_train`.
      width: runs at a time on each device; ``None`` takes as many as fit in memory, or, if the
        sweep will take minutes, the fastest of a few widths that are timed first. It is recorded
        in the manifest, for another width gives slightly different rounding.
      devices: where to compute; ``None`` takes all of this process, see `configure_cpu`.

    Returns:
      A :class:`SweepResult` of host arrays.

    Raises:
      TypeError: for a game whose functions do not return what :class:`Game` says, an optimizer
        in the place of a function that makes one, or an observer that is no pair of functions.
      ValueError: for mismatched lengths, bad cadences or widths, non-finite hyperparameters, a step
        or an observer that changes the shape or dtype of what it carries, or a folder that holds
        something else (a changed loss is something else) or that another process is writing.
      WriteError: if a checkpoint could not be written at the second attempt.
      MemoryError: if there is too little memory. After either, the same call continues from the
        checkpoints that are there.

    Warns:
      RuntimeWarning: for everything that was found or went wrong and is dealt with: a damaged
        checkpoint that was passed over, a write that will be tried again, less memory than planned,
        other versions than those that the run was begun with.

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
    with numerics(None):
        return _sweep(
            game,
            make_optimizer,
            seeds=seeds,
            hyperparameters=hyperparameters,
            steps=steps,
            checkpoint_every=checkpoint_every,
            record_every=record_every,
            out=None if out is None else Path(out).absolute(),
            observers=observers,
            on_chunk=on_chunk,
            independent_samples=independent_samples,
            width=width,
            devices=devices,
        )


def _sweep(
    game: Game,
    make_optimizer: MakeOptimizer,
    *,
    seeds: Any,
    hyperparameters: Mapping[str, Any],
    steps: int,
    checkpoint_every: int | None,
    record_every: int,
    out: Path | None,
    observers: Mapping[str, Observer | tuple] | None,
    on_chunk: Callable[[Progress], None] | None,
    independent_samples: bool,
    width: int | None,
    devices: Sequence[Device] | None,
) -> SweepResult:
    """`sweep` under settings that do not depend on JAX's global ones."""
    seeds, hyperparameters = _check_runs(seeds, hyperparameters)
    checkpoint_every = steps if checkpoint_every is None else checkpoint_every
    steps, checkpoint_every, record_every = _check_cadence(steps, checkpoint_every, record_every)
    width = None if width is None else _count("width", width)
    independent_samples = bool(independent_samples)
    if devices is not None and not len(devices):
        raise ValueError("devices=[]: expected at least one, or None for all of this process")
    check_ranges(make_optimizer, hyperparameters)
    fingerprint = check_step(
        game,
        make_optimizer,
        hyperparameters,
        observers=named_observers(observers),
        independent_samples=independent_samples,
    )
    arguments: dict[str, Any] = {
        "seeds": seeds,
        "hyperparameters": hyperparameters,
        "steps": steps,
        "checkpoint_every": checkpoint_every,
        "record_every": record_every,
        "observers": observers,
        "on_chunk": on_chunk,
        "on_damage": warn,
        "independent_samples": independent_samples,
        "devices": devices,
    }
    if out is None:
        return _collected(run_cell(game, make_optimizer, store=None, width=width, **arguments))
    plan = plan_of(
        {"sweep": (seeds, hyperparameters)},
        steps=steps,
        checkpoint_every=checkpoint_every,
        record_every=record_every,
        independent_samples=independent_samples,
    )
    with writing(out, plan=plan, recipe=None) as run:
        run = begin_session(record_program(run, fingerprint()), warn)
        finished = run_cell(
            game,
            make_optimizer,
            store=run.store("sweep"),
            on_strategy=lambda chosen: keep_strategy(run, "sweep", chosen),
            width=run.manifest["widths"].get("sweep", width),
            **arguments,
        )
        return _collected(finished)


def _collected(result: SweepResult | None) -> SweepResult:
    assert result is not None
    return result


def begin_session(run: Run, tell: Callable[[str], None]) -> Run:
    """Notes and tells what is not as it was when the run was begun."""
    noted, changed = record_session(run)
    for message in (run.damage, run.changed_data(), changed):
        if message:
            tell(message)
    return noted


def warn(message: str) -> None:
    """The way to tell a caller who gave no other."""
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def keep_strategy(run: Run, cell: str, strategy: Strategy) -> Run:
    """Records the width, and how the runs are laid out."""
    layout = {"devices": len(strategy.devices), "seconds_per_step": strategy.measured}
    return record_width(run, cell, strategy.width, layout)


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


def _check_runs(
    seeds: Any, hyperparameters: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    seeds = np.asarray(seeds)
    if seeds.ndim == 0:
        raise ValueError(
            f"seeds={seeds}: expected int[R], a seed for every run, such as [0]; grid(...) takes "
            "how many, and makes the columns of hyperparameters too"
        )
    if seeds.ndim != 1 or seeds.size == 0 or not np.issubdtype(seeds.dtype, np.integer):
        raise ValueError(
            f"seeds: expected int[R] with R >= 1, got {seeds.dtype}{list(seeds.shape)}"
        )
    if seeds.min() < 0 or seeds.max() >= 2**32:
        raise ValueError("seeds: expected integers in [0, 2**32)")
    for name in hyperparameters:
        check_name("hyperparameter", name)
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


def _check_cadence(steps: int, checkpoint_every: int, record_every: int) -> tuple[int, int, int]:
    """The same as Python's integers."""
    steps = _count("steps", steps)
    checkpoint_every = _count("checkpoint_every", checkpoint_every)
    record_every = _count("record_every", record_every)
    check_divides("steps", steps, "checkpoint_every", checkpoint_every)
    check_divides("checkpoint_every", checkpoint_every, "record_every", record_every)
    return steps, checkpoint_every, record_every


def _count(name: str, value: Any) -> int:
    if isinstance(value, np.integer) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    check_count(name, value)
    return int(value)
