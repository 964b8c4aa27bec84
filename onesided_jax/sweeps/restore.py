"""Restores a training state and its step function from a checkpoint, for your own loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, make_key
from onesided_jax.runs import (
    CheckpointStore,
    DamagedCheckpointError,
    Run,
    build_game,
    cells,
    latest_valid,
    numerics,
    open_run,
    unpack,
)
from onesided_jax.sweeps.check import named_observers
from onesided_jax.sweeps.engine import EMA, Observer
from onesided_jax.sweeps.step import MakeOptimizer, StepInfo, TrainState, make_step

__all__ = ["Restored", "restore"]


class Restored(NamedTuple):
    """The runs of a cell at a checkpoint.

    Attributes:
      game: the game.
      step: ``(state, hyperparameters, data=None) -> (state, StepInfo)`` of one run, pure.
      state: the training states, leaves ``[R, ...]``; ``state.step`` is the number of steps done.
      hyperparameters: name to ``float[R]``.
      observers: name to the state of each observer that was passed, leaves ``[R, ...]``; ``"ema"``
        is the moving average of the primal player, if the run has one.
    """

    game: Game
    step: Callable[[TrainState, Mapping[str, Any]], tuple[TrainState, StepInfo]]
    state: TrainState
    hyperparameters: dict[str, jax.Array]
    observers: dict[str, ArrayTree]


def restore(
    run: Run | str | os.PathLike[str],
    cell: str,
    *,
    step: int | None = None,
    game: Game | None = None,
    make_optimizer: MakeOptimizer | None = None,
    observers: Mapping[str, Observer | tuple] | None = None,
) -> Restored:
    """Reads a checkpoint for use in your own loop: fine-tuning, another data set, plots.

    Nothing is written to the run directory. To continue training in it, call :func:`sweep` or
    :func:`resume`.

    Args:
      run: a run directory, opened or as a path.
      cell: one of ``run.cells``; ``"sweep"`` for a sweep of a game built in Python.
      step: the step of the checkpoint; ``None`` takes the newest readable one.
      game: the game; ``None`` takes the recipe's. Required if there is no recipe.
      make_optimizer: ``make_optimizer(**hyperparameters) -> optax transformation``; ``None`` takes
        the recipe's. Required if there is no recipe.
      observers: the observers of the sweep whose states you want to read.

    Returns:
      A :class:`Restored`. For a ``float64`` recipe, use it under ``jax.enable_x64(True)``.

    Raises:
      ValueError: for a cell that the run does not have, or if the run has no recipe and game or
        optimizer is not given.
      DamagedCheckpointError: (a ValueError) if the checkpoint is missing or unreadable, or does not
        fit the game, optimizer or observers.

    Example:
      >>> import tempfile
      >>> import jax
      >>> from onesided_jax import GameSpec, OptimizerSpec, Recipe, run
      >>> from onesided_jax.sweeps import restore
      >>> rates = {"primal_learning_rate": (0.02,), "dual_learning_rate": (0.2, 2.0)}
      >>> adam = OptimizerSpec("adam", axes=rates)
      >>> recipe = Recipe("try", GameSpec("carousel"), (adam,), (0,), 20, checkpoint_every=10)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     found = restore(run(recipe, folder), "adam", step=10)
      >>> state, info = jax.jit(jax.vmap(found.step))(found.state, found.hyperparameters)
      >>> state.step.tolist(), info.losses.primal.shape
      ([11, 11], (2,))
    """
    opened = run if isinstance(run, Run) else open_run(run)
    store, recipe = opened.store(cell), opened.recipe
    with numerics(recipe):
        if recipe is not None:
            (its,) = (found for found in cells(recipe) if found.label == cell)
            game = game or build_game(recipe.game, recipe.precision)
            make_optimizer = make_optimizer or its.make_optimizer
        if game is None or make_optimizer is None:
            raise ValueError(
                f"{str(opened.path)!r} was made by sweep(...) in Python and has no recipe: "
                "pass its game and make_optimizer"
            )
        init, train_step = make_step(
            game, make_optimizer, independent_samples=opened.manifest["plan"]["independent_samples"]
        )
        hyperparameters = {k: jnp.asarray(v) for k, v in opened.hyperparameters(cell).items()}
        keys = jax.eval_shape(jax.vmap(make_key), jnp.asarray(opened.seeds(cell), jnp.uint32))
        like = jax.eval_shape(jax.vmap(init), keys, hyperparameters)
        stored = _newest(store) if step is None else store.read(step)
        wanted = {
            name: jax.eval_shape(jax.vmap(observer.init), like.players)
            for name, observer in named_observers(observers)
        }
        if "ema" in opened.manifest["plan"]:
            wanted[EMA] = like.players.primal
        found = unpack(stored, {**like._asdict(), "observers": wanted})
        carried = found.pop("observers")
    return Restored(game, train_step, TrainState(**found), hyperparameters, carried)


def _newest(store: CheckpointStore) -> dict[str, Any]:
    found, damaged = latest_valid(store)
    if found is None:
        raise DamagedCheckpointError("; ".join(damaged) or f"{str(store.path)!r} is empty")
    return found[1]
