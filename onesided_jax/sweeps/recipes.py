"""Running a recipe into a run directory, and continuing one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from onesided_jax.runs import (
    Recipe,
    Run,
    build_game,
    cells,
    create_or_open,
    open_run,
    precision,
    record_width,
)
from onesided_jax.sweeps.loop import Progress, plan_of, run_cell

__all__ = ["resume", "run"]


def run(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    on_chunk: Callable[[str, Progress], None] | None = None,
    on_damage: Callable[[str], None] = lambda message: None,
    width: int | None = None,
) -> Run:
    """Trains every cell of a recipe into a run directory, continuing what is already there.

    Args:
      recipe: what to run.
      out: the run directory; new, empty, or holding this very recipe.
      on_chunk: called with the cell's label and a :class:`Progress` after every chunk.
      on_damage: called with one sentence for every damaged checkpoint that was passed over.
      width: runs per dispatch; ``None`` takes as many as fit in memory. Ignored for a cell that
        has been started: its width is part of what its bits depend on.

    Returns:
      The finished run; ``open_run(out)`` opens it again.

    Raises:
      ValueError: for a folder that holds something else, or options that the game refuses;
        nothing is computed or changed then.

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
    with precision(recipe):
        game = build_game(recipe.game)
        planned = cells(recipe)
        plan = plan_of(
            {cell.label: (cell.seeds, cell.hyperparameters) for cell in planned},
            steps=recipe.steps,
            checkpoint_every=recipe.checkpoint_every,
            record_every=recipe.record_every,
            independent_samples=recipe.independent_samples,
        )
        opened = create_or_open(Path(out), plan=plan, recipe=recipe)
        for cell in planned:
            started = opened.manifest["widths"].get(cell.label)
            if started is not None and opened.store(cell.label).holds(recipe.steps):
                continue

            def on_width(chosen: int, label: str = cell.label, known: int | None = started):
                nonlocal opened
                if known is None:
                    opened = record_width(opened, label, chosen)

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
                on_width=on_width,
                on_damage=on_damage,
                independent_samples=recipe.independent_samples,
                width=width if started is None else started,
            )
    return opened


def resume(
    out: str | os.PathLike[str],
    *,
    on_chunk: Callable[[str, Progress], None] | None = None,
    on_damage: Callable[[str], None] = lambda message: None,
) -> Run:
    """Continues the recipe in a run directory to its end, bit for bit as if never interrupted.

    Args:
      out: a run directory that :func:`run` began.
      on_chunk: as in :func:`run`.
      on_damage: as in :func:`run`.

    Returns:
      The finished run.

    Raises:
      ValueError: if the folder holds no run, or one without a recipe.
    """
    opened = open_run(Path(out))
    if opened.recipe is None:
        raise ValueError(
            f"{str(out)!r} was made by sweep(...) in Python and has no recipe: "
            "call the same sweep(..., out=...) again to continue it"
        )
    return run(opened.recipe, out, on_chunk=on_chunk, on_damage=on_damage)
