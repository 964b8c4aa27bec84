"""From a checkpoint back to a training state and its step, for a loop of one's own."""

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
      game: what they play.
      step: ``(state, hyperparameters, data=None) -> (state, StepInfo)`` of one run, pure.
      state: theirs, leaves ``[R, ...]``; ``state.step`` says after how many steps.
      hyperparameters: name to ``float[R]``.
      observers: name to what an observer that was given has carried so far, leaves ``[R, ...]``;
        ``"ema"`` is the primal player's moving average, where the run has one.
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
    """Reads a checkpoint to go on from in a loop of your own: fine-tuning, another data set, plots.

    :func:`sweep` and :func:`resume` continue a run directory on their own; what is done here is not
    written into it.

    Args:
      run: a run directory, opened or its path.
      cell: which of ``run.cells``; ``"sweep"`` for a sweep of a game built in Python.
      step: of the checkpoint; ``None`` takes the newest that can be read.
      game: what to play, if not the recipe's game; needed where there is no recipe.
      make_optimizer: ``make_optimizer(**hyperparameters) -> optax transformation``, the same.
      observers: of those that the sweep carried the ones that you want to read.

    Returns:
      A :class:`Restored`; of a ``float64`` recipe, to be used under ``jax.enable_x64(True)``.

    Raises:
      ValueError: without a recipe, if game or optimizer is not given; for a cell that the run does
        not have.
      DamagedCheckpointError: (a ValueError) if there is no such checkpoint, or none that can be
        read, or game, optimizer or observers are not those of the checkpoint.

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
