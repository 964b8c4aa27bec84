"""Running a recipe into a run directory, and continuing one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from onesided_jax import processes
from onesided_jax.games import Game
from onesided_jax.players import Device, PRNGKey, make_key
from onesided_jax.runs import (
    Recipe,
    Run,
    build_game,
    cells,
    numerics,
    open_run,
    record_samples,
    with_absolute_data,
    writing,
)
from onesided_jax.sweeps.cell import run_cell
from onesided_jax.sweeps.loop import begin_session, keep_strategy, plan_of, warn
from onesided_jax.sweeps.result import Progress
from onesided_jax.sweeps.strategy import Strategy

__all__ = ["resume", "run"]


def run(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    on_chunk: Callable[[str, Progress], None] | None = None,
    on_damage: Callable[[str], None] = warn,
    width: int | None = None,
    devices: Sequence[Device] | None = None,
    stop: Callable[[], object] = lambda: False,
) -> Run:
    """Trains every cell of a recipe into a run directory, continuing what is already there.

    Of several processes (``jax.distributed.initialize()`` before anything else) all call this with
    the same arguments and a folder that all of them see; each trains its share of the runs.

    Args:
      recipe: what to run.
      out: the run directory; new, empty, or holding this very recipe.
      on_chunk: called with the cell's label and a :class:`Progress` after every chunk.
      on_damage: called with one sentence for everything that was found or went wrong and is dealt
        with: a damaged checkpoint that was passed over, a write that will be tried again, less
        memory than planned, versions or a data file other than those that the run was begun with.
        By default a ``RuntimeWarning``.
      width: runs at a time on each device, see :func:`sweep`. Ignored for a cell that has been
        started: its width is part of what its bits depend on.
      devices: where to compute; ``None`` takes all of this process, see `configure_cpu`.
      stop: asked before every chunk; true ends the sweep there, with everything saved.

    Returns:
      The run, finished unless ``stop`` ended it; ``open_run(out)`` opens it again.

    Raises:
      ValueError: for a folder that holds something else or that another process is writing, or
        options that the game refuses; nothing is computed or changed then.
      WriteError: if a checkpoint could not be written at the second attempt.
      MemoryError: if there is too little memory. After either, the checkpoints that are there are
        whole, and :func:`resume` continues from them.

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
    recipe = with_absolute_data(recipe)
    with numerics(recipe):
        game = build_game(recipe.game, recipe.precision)
        planned = cells(recipe)
        plan = plan_of(
            {cell.label: (cell.seeds, cell.hyperparameters) for cell in planned},
            steps=recipe.steps,
            checkpoint_every=recipe.checkpoint_every,
            record_every=recipe.record_every,
            independent_samples=recipe.independent_samples,
        )
        with writing(Path(out).absolute(), plan=plan, recipe=recipe) as opened:
            if game.generate is not None:
                opened = record_samples(opened, _sample_shape(game))
            finished = processes.first(lambda: [_is_finished(opened, c.label) for c in planned])
            unfinished = [c for c, done in zip(planned, finished, strict=True) if not done]
            if unfinished:
                opened = begin_session(opened, on_damage)
            elif opened.damage:
                on_damage(opened.damage)
            for cell in unfinished:
                if processes.highest(bool(stop())):
                    break

                def on_strategy(chosen: Strategy, label: str = cell.label):
                    nonlocal opened
                    opened = keep_strategy(opened, label, chosen)

                def tell(progress: Progress, label: str = cell.label):
                    if on_chunk is not None:
                        on_chunk(label, progress)

                run_cell(
                    game,
                    cell.make_optimizer,
                    seeds=cell.seeds,
                    hyperparameters=cell.hyperparameters,
                    steps=recipe.steps,
                    checkpoint_every=recipe.checkpoint_every,
                    record_every=recipe.record_every,
                    store=opened.store(cell.label),
                    on_chunk=tell,
                    on_strategy=on_strategy,
                    on_damage=on_damage,
                    independent_samples=recipe.independent_samples,
                    width=opened.manifest["widths"].get(cell.label, width),
                    devices=devices,
                    stop=stop,
                    collect=False,
                )
    return opened


def _sample_shape(game: Game) -> tuple[int, ...]:
    def one(key: PRNGKey) -> Any:
        assert game.generate is not None
        return game.generate(*game.init(key), key, 1)

    return jax.eval_shape(one, make_key(0)).shape[1:]


def _is_finished(run: Run, label: str) -> bool:
    started = label in run.manifest["widths"]
    return started and run.store(label).holds(run.manifest["plan"]["steps"])


def resume(
    out: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    on_chunk: Callable[[str, Progress], None] | None = None,
    on_damage: Callable[[str], None] = warn,
    devices: Sequence[Device] | None = None,
    stop: Callable[[], object] = lambda: False,
) -> Run:
    """Continues the recipe in a run directory to its end, bit for bit as if never interrupted.

    Args:
      out: a run directory that :func:`run` began.
      data: where the run's data lie now, if they have moved (see :func:`open_run`).
      on_chunk: as in :func:`run`.
      on_damage: as in :func:`run`.
      devices: as in :func:`run`; they need not be those that the run was begun on.
      stop: as in :func:`run`.

    Returns:
      The run, finished unless ``stop`` ended it.

    Raises:
      ValueError: if the folder holds no run, or one without a recipe; and as :func:`run`.
    """
    opened = open_run(out, data=data)
    if opened.recipe is None:
        raise ValueError(
            f"{str(out)!r} was made by sweep(...) in Python and has no recipe: "
            "call the same sweep(..., out=...) again to continue it"
        )
    return run(
        opened.recipe, out, on_chunk=on_chunk, on_damage=on_damage, devices=devices, stop=stop
    )
