"""Running a recipe into a run directory, and continuing one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from onesided_jax import processes
from onesided_jax.games import Game
from onesided_jax.players import Device, PRNGKey, make_key
from onesided_jax.runs import (
    Cell,
    Recipe,
    Run,
    build_game,
    cells,
    numerics,
    open_run,
    record,
    with_absolute_data,
    writing,
)
from onesided_jax.runs.recipe import lengthened
from onesided_jax.sweeps.engine import Plan, Training
from onesided_jax.sweeps.live import as_loggers, logging_to
from onesided_jax.sweeps.result import Progress
from onesided_jax.sweeps.saving import train_stored
from onesided_jax.sweeps.sweep import begin_session, plan_of, progress_of, stable, warn

__all__ = ["plan_cell", "resume", "run"]


def run(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    on_chunk: Callable[[str, Progress], None] | None = None,
    on_damage: Callable[[str], None] = warn,
    loggers: Any = (),
    width: int | None = None,
    devices: Sequence[Device] | None = None,
    stop: Callable[[], object] = lambda: False,
) -> Run:
    """Trains every cell of a recipe into a run directory, or continues the one in it.

    With several processes (call ``jax.distributed.initialize()`` first), all call this with the
    same arguments and a folder that all can access. Each trains its share of the runs.

    Args:
      recipe: the recipe.
      out: the run directory; new, empty, or begun with the same recipe, perhaps with fewer steps.
      on_chunk: called with the cell's label and a :class:`Progress` after every chunk.
      on_damage: called with one sentence for each problem that does not stop training: a damaged
        checkpoint that is skipped, versions or a data file that changed since the run began, a
        logger that fails. By default a ``RuntimeWarning``.
      loggers: log every run during training, see :func:`sweep`.
      width: runs at a time on each device, see :func:`sweep`. A cell with saved chunks keeps its
        width, because rounding depends on it.
      devices: the devices to use; ``None`` takes all, see `configure_cpu`.
      stop: called before every chunk; if it returns true, training ends with everything saved.

    Returns:
      The run, finished unless ``stop`` ended it; ``open_run(out)`` opens it again.

    Raises:
      ValueError: for a folder that holds something else or is being written by another process,
        or for options that the game rejects. Nothing is computed or changed.
      WriteError: if a checkpoint could not be written; :func:`resume` continues from the last one.
      MemoryError: if memory runs out; the message names a width to try. :func:`resume` continues
        from the last checkpoint.

    Example:
      >>> import tempfile
      >>> from onesided_jax import GameSpec, OptimizerSpec, Recipe, run
      >>> rates = {"primal_learning_rate": (0.02,), "dual_learning_rate": (0.2, 2.0)}
      >>> recipe = Recipe(
      ...     name="try",
      ...     game=GameSpec("carousel"),
      ...     seeds=(0, 1),
      ...     steps=20,
      ...     checkpoint_every=10,
      ...     optimizers=(OptimizerSpec("adam", axes=rates),),
      ... )
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     finished = run(recipe, folder)
      ...     finished.store("adam").steps()
      [0, 10, 20]
    """
    recipe, loggers = with_absolute_data(recipe), as_loggers(loggers)
    with numerics(recipe):
        game = build_game(recipe.game, recipe.precision)
        planned = cells(recipe)
        plans = [plan_cell(recipe, game, cell) for cell in planned]
        content = plan_of(planned, plans[0])
        with (
            writing(Path(out).absolute(), plan=content, recipe=recipe) as opened,
            logging_to(loggers, opened, on_damage) as log,
        ):
            if game.generate is not None:
                opened = record(opened, sample_shape=list(_sample_shape(game)))
            finished = processes.first(lambda: [_is_finished(opened, c.label) for c in planned])
            if not all(finished):
                opened = begin_session(opened, on_damage)
            for cell, plan, done in zip(planned, plans, finished, strict=True):
                if done or processes.highest(bool(stop())):
                    continue
                _, chunks = train_stored(
                    plan, opened, cell.label,
                    width=width, devices=devices, on_damage=on_damage, stop=stop,
                )  # fmt: skip
                # Close the chunks before releasing the lock, so that a pending checkpoint is
                # written.
                with contextlib.closing(chunks):
                    for chunk in chunks:
                        log(cell.label, plan, chunk)
                        if on_chunk is not None and chunk.step > 0:
                            on_chunk(cell.label, progress_of(plan, chunk))
            return open_run(opened.path) if processes.is_first() else opened


def plan_cell(recipe: Recipe, game: Game, cell: Cell) -> Plan:
    """The plan of one cell of a recipe."""
    training = Training(
        game,
        stable(cell.make_optimizer),
        independent_samples=recipe.independent_samples,
        record_every=recipe.record_every,
        ema=recipe.ema,
    )
    return Plan(training, cell.runs, recipe.steps, recipe.checkpoint_every)


def _sample_shape(game: Game) -> tuple[int, ...]:
    def one(key: PRNGKey) -> jax.Array:
        assert game.generate is not None
        return game.generate(*game.init(key), key, 1)

    return jax.eval_shape(one, make_key(0)).shape[1:]


def _is_finished(run: Run, label: str) -> bool:
    started = label in run.manifest["widths"]
    return started and run.store(label).holds(run.manifest["plan"]["steps"])


def resume(
    out: str | os.PathLike[str],
    *,
    steps: int | None = None,
    data: str | os.PathLike[str] | None = None,
    on_chunk: Callable[[str, Progress], None] | None = None,
    on_damage: Callable[[str], None] = warn,
    loggers: Any = (),
    devices: Sequence[Device] | None = None,
    stop: Callable[[], object] = lambda: False,
) -> Run:
    """Continues a run directory to its last step, bit for bit as if never interrupted.

    With more ``steps``, a finished run continues too. The result has the same bits as a run that
    was begun with that many steps and the same width.

    Args:
      out: a run directory that :func:`run` began.
      steps: total steps, a multiple of ``checkpoint_every``, at least as many as in the recipe;
        ``None`` keeps the recipe's.
      data: new location of the run's data, if they have moved (see :func:`open_run`).
      on_chunk: as in :func:`run`.
      on_damage: as in :func:`run`.
      loggers: as in :func:`run`; the same loggers append to their logs.
      devices: as in :func:`run`; they may differ from those of the first session.
      stop: as in :func:`run`.

    Returns:
      The run, finished unless ``stop`` ended it.

    Raises:
      ValueError: if the folder holds no run or one without a recipe, if ``steps`` is smaller than
        the recipe's, and as :func:`run`.
    """
    opened = open_run(out, data=data)
    if opened.recipe is None:
        raise ValueError(
            f"{str(out)!r} was made by sweep(...) in Python and has no recipe: "
            "call the same sweep(..., out=...) again to continue it"
        )
    return run(
        lengthened(opened.recipe, steps), out,
        on_chunk=on_chunk, on_damage=on_damage, loggers=loggers, devices=devices, stop=stop,
    )  # fmt: skip
