"""Many runs of a game as one compiled program, checkpointed and resumable."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax import processes
from onesided_jax.errors import check_count, check_decay, check_divides
from onesided_jax.games import Game
from onesided_jax.players import Device
from onesided_jax.runs import (
    Cell,
    CheckpointStore,
    Run,
    Runs,
    numerics,
    read_metrics,
    record_session,
    unpack,
    writing,
)
from onesided_jax.sweeps.check import check_ranges, check_step, named_metrics, named_observers
from onesided_jax.sweeps.driver import Chunk, train
from onesided_jax.sweeps.engine import EMA, METRICS, Carry, Observer, Plan, StepView, Training
from onesided_jax.sweeps.layout import choose_layout
from onesided_jax.sweeps.live import as_loggers, logging_to
from onesided_jax.sweeps.result import Checkpoint, Progress, StoredCheckpoints, SweepResult
from onesided_jax.sweeps.saving import stored_like, train_stored
from onesided_jax.sweeps.step import MakeOptimizer

__all__ = ["begin_session", "plan_of", "progress_of", "stable", "sweep", "warn"]


def sweep(
    game: Game,
    make_optimizer: MakeOptimizer,
    runs: Runs,
    *,
    steps: int,
    checkpoint_every: int | None = None,
    record_every: int = 1,
    out: str | os.PathLike[str] | None = None,
    record: Mapping[str, Callable[[StepView], Any]] | None = None,
    observers: Mapping[str, Observer | tuple] | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    loggers: Any = (),
    ema: float | None = None,
    independent_samples: bool = True,
    width: int | None = None,
    devices: Sequence[Device] | None = None,
) -> SweepResult:
    """Trains every run at once: one vmapped program, a scan of many steps per dispatch.

    A trajectory depends on the game, the run's seed and hyperparameters, the width, the number of
    devices and the platform. Its position, the other runs, interruption and resume change no bit.
    A run that turns non-finite is frozen at its last finite state; the other runs are unaffected.
    With several processes (call ``jax.distributed.initialize()`` first), all call this with the
    same arguments. Each trains its share of the runs, and all return all runs.

    Args:
      game: the game.
      make_optimizer: ``make_optimizer(**hyperparameters) -> optax transformation``, such as
        ``osj.extra_adam`` or ``functools.partial(osj.extra_adam, b1=0.5)``; called with scalar
        tracers.
      runs: the seeds and hyperparameters of all runs, see :func:`grid` and :class:`Runs`.
      steps: training steps, a multiple of ``checkpoint_every``.
      checkpoint_every: steps between checkpoints, a multiple of ``record_every``; ``None``
        keeps the first and the last state only.
      record_every: steps between recorded metrics.
      out: folder for a run directory; ``None`` keeps checkpoints in memory. A sweep that it holds
        is continued if the plan is the same or only has more steps.
      record: name to ``step_view -> scalar``: your own metrics, see :class:`StepView`.
      observers: name to ``(init, update)``, see :class:`Observer`.
      on_chunk: called with a :class:`Progress` after every chunk.
      loggers: one or many of ``"tensorboard:DIR"``, ``"wandb:PROJECT"``, ``"jsonl:FILE"``, or your
        own function or object, see :class:`Logger`. They log every run during training.
      ema: decay in ``[0, 1)``, such as 0.999, of a moving average of the primal player that
        starts at the initial value. It is returned as ``result.ema``, and analysis measures
        samples of the average. It changes no trajectory.
      independent_samples: see :func:`make_step`.
      width: runs at a time on each device; ``None`` takes as many as fit in memory, and on a CPU
        no more than suit its caches. A run directory keeps the width of its first chunk,
        because another width rounds slightly differently.
      devices: the devices to use; ``None`` takes all, see `configure_cpu`.

    Returns:
      A :class:`SweepResult` of host arrays.

    Raises:
      TypeError: if a function of the game returns another type than :class:`Game` says,
        ``make_optimizer`` is an optimizer instead of a function that makes one, or an observer is
        not a pair of functions.
      ValueError: for invalid cadences or widths, for a step or observer that changes the shape or
        dtype of its state, or for a folder that holds something else or is being written by
        another process.
      WriteError: if a checkpoint could not be written; the same call continues from the last one.
      MemoryError: if memory runs out; the message names a width to try. The same call continues
        from the last checkpoint.

    Warns:
      RuntimeWarning: for a damaged checkpoint that is skipped, for package versions that differ
        from the first session's, or for a logger that fails.

    Example:
      >>> import onesided_jax as osj
      >>> runs = osj.grid(seeds=3, primal_learning_rate=(0.01, 0.1), dual_learning_rate=0.1)
      >>> result = osj.sweep(osj.games.carousel(), osj.adam, runs, steps=20)
      >>> result.metrics["loss_primal"].shape, result.players.primal.shape
      ((6, 20), (6, 2))
    """
    if not isinstance(runs, Runs):
        raise TypeError(
            f"runs is of type {type(runs).__name__}: expected grid(seeds=..., NAME=...) or "
            "Runs(seeds, hyperparameters)"
        )
    with numerics(None):
        steps = check_count("steps", steps)
        checkpoint_every = check_count(
            "checkpoint_every", steps if checkpoint_every is None else checkpoint_every
        )
        record_every = check_count("record_every", record_every)
        check_divides("steps", steps, "checkpoint_every", checkpoint_every)
        check_divides("checkpoint_every", checkpoint_every, "record_every", record_every)
        check_ranges(make_optimizer, runs.hyperparameters)
        training = Training(
            game,
            stable(make_optimizer),
            named_observers(observers),
            named_metrics(record),
            bool(independent_samples),
            record_every,
            check_decay("ema", ema),
        )
        if ema is not None and EMA in (observers or {}):
            raise ValueError(f"observers={EMA!r}: ema={ema} has this name; choose another")
        check_step(training, tuple(runs.hyperparameters))
        plan = Plan(training, runs, steps, checkpoint_every)
        width = None if width is None else check_count("width", width)
        if devices is not None and not len(devices):
            raise ValueError("devices=[]: expected at least one, or None for all")
        loggers = as_loggers(loggers)
        if out is None:
            chunks = train(plan, choose_layout(plan, width=width, devices=devices))
            with logging_to(loggers, None, warn) as log:
                return _collect(plan, chunks, _effects(plan, log, on_chunk))
        cell = Cell("sweep", make_optimizer, runs)
        content = plan_of([cell], plan)
        with writing(Path(out).absolute(), plan=content, recipe=None) as run:
            run = begin_session(run, warn)
            step, chunks = train_stored(
                plan, run, "sweep", width=width, devices=devices, on_damage=warn
            )
            store, shape = run.store("sweep"), (len(runs), checkpoint_every // record_every)
            before = read_metrics(store, step, checkpoint_every, shape, warn)
            # Close the chunks before releasing the lock, so that a pending checkpoint is written.
            with logging_to(loggers, run, warn) as log, contextlib.closing(chunks):
                return _collect(plan, chunks, _effects(plan, log, on_chunk), before, store)


def _effects(
    plan: Plan,
    log: Callable[[str, Plan, Chunk], None],
    on_chunk: Callable[[Progress], None] | None,
) -> Callable[[Chunk], None]:
    """Returns the function that passes each chunk to loggers and ``on_chunk``."""

    def tell(chunk: Chunk) -> None:
        log("sweep", plan, chunk)
        if on_chunk is not None:
            on_chunk(progress_of(plan, chunk))

    return tell


def _collect(
    plan: Plan,
    chunks: Iterable[Chunk],
    tell: Callable[[Chunk], None],
    segments: Sequence[Mapping[str, np.ndarray]] = (),
    store: CheckpointStore | None = None,
) -> SweepResult:
    """Trains to the end; ``segments`` are the metrics of the chunks that are already saved."""
    count, segments = len(plan.runs), list(segments)
    checkpoints: dict[int, Checkpoint] = {}
    diverged_at = None
    for chunk in chunks:
        diverged_at = chunk.diverged_at
        if store is None:
            checkpoints[chunk.step] = _checkpoint(chunk.carry, count)
        if chunk.step > 0:
            segments.append(chunk.metrics)
            tell(chunk)
    stored = checkpoints if store is None else StoredCheckpoints(store, stored_like(plan))
    last = stored[plan.steps]
    if diverged_at is None:  # nothing was left to do
        assert store is not None
        found = unpack(store.read(plan.steps), stored_like(plan))
        diverged_at = found["diverged_at"]
    names = [*METRICS, *(name for name, _ in plan.training.record)]
    return SweepResult(
        players=last.players,
        state=last.state,
        metrics={name: np.concatenate([s[name] for s in segments], axis=1) for name in names},
        checkpoints=stored,
        hyperparameters=dict(plan.runs.hyperparameters),
        seeds=plan.runs.seeds,
        diverged_at=diverged_at,
        game=plan.training.game,
        ema=None if plan.training.ema is None else last.observers[EMA],
    )


def progress_of(plan: Plan, chunk: Chunk) -> Progress:
    """The argument of ``on_chunk``."""
    diverged = int((chunk.diverged_at >= 0).sum())
    return Progress(chunk.step, plan.steps, len(plan.runs), diverged, chunk.seconds, chunk.metrics)


def _checkpoint(carry: Carry, runs: int) -> Checkpoint:
    train = carry.train
    return Checkpoint(*processes.fetch((train.players, train.state, carry.observers), runs))


def stable(make_optimizer: MakeOptimizer) -> MakeOptimizer:
    """Returns equal partials as one object, so that the cache of programs recognises them."""
    if not isinstance(make_optimizer, functools.partial):
        return make_optimizer
    keywords = tuple((name, type(v), v) for name, v in sorted(make_optimizer.keywords.items()))
    positional = tuple((type(v), v) for v in make_optimizer.args)
    try:
        return _partial(make_optimizer.func, positional, keywords)
    except TypeError:  # an argument is not hashable
        return make_optimizer


@functools.lru_cache(maxsize=64)
def _partial(function: Callable[..., Any], positional: tuple, keywords: tuple) -> MakeOptimizer:
    return functools.partial(
        function, *(v for _, v in positional), **{name: v for name, _, v in keywords}
    )


def begin_session(run: Run, tell: Callable[[str], None]) -> Run:
    """Records this session, and reports data or versions that changed since the first one."""
    noted, changed = record_session(run)
    for message in (run.changed_data(), changed):
        if message:
            tell(message)
    return noted


def warn(message: str) -> None:
    """The default ``on_damage``: a ``RuntimeWarning``."""
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def plan_of(cells: Sequence[Cell], plan: Plan) -> dict[str, Any]:
    """The part of a manifest that must agree for a sweep to be continued."""
    training = plan.training
    extras = {"observers": dict(training.observers), "record": dict(training.record)}
    return {
        **{name: list(named) for name, named in extras.items() if named},
        **({} if training.ema is None else {"ema": training.ema}),
        "steps": plan.steps,
        "checkpoint_every": plan.checkpoint_every,
        "record_every": training.record_every,
        "independent_samples": training.independent_samples,
        "cells": {cell.label: cell.runs.to_json() for cell in cells},
    }
