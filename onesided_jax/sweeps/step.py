"""One run of one game under one optimizer, as two pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.games import Game
from onesided_jax.optimizers import projected
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.players import ArrayTree, PrimalDual, PRNGKey

__all__ = ["MakeOptimizer", "StepInfo", "TrainState", "make_step"]

MakeOptimizer = Callable[..., optax.GradientTransformation]
"""``make_optimizer(**hyperparameters)``."""


class TrainState(NamedTuple):
    """The state of one run between steps.

    Attributes:
      players: both players.
      state: the game's state (of networks), or ``()``.
      opt_state: the optimizer's state.
      key: the run's random key. It never changes: each step folds its number into it.
      step: int32 scalar, steps done.
    """

    players: PrimalDual
    state: ArrayTree
    opt_state: ArrayTree
    key: PRNGKey
    step: jax.Array


class StepInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      losses: both players' losses on the step's minibatch, before the step.
      field: ``F`` at the same players and minibatch.
      updates: the change of the players.
    """

    losses: PrimalDual
    field: PrimalDual
    updates: PrimalDual


def make_step(
    game: Game, make_optimizer: MakeOptimizer, *, independent_samples: bool = True
) -> tuple[Callable[..., TrainState], Callable[..., tuple[TrainState, StepInfo]]]:
    r"""A training run as a pair of pure functions, ready for jit, vmap and scan.

    The first evaluation of step ``t`` uses the minibatch of ``fold_in(key_t, 0)``. Evaluation
    ``grad_fn(players, i)`` draws an independent one from ``fold_in(key_t, i + 1)``, because the
    stochastic guarantee requires it: with one minibatch, extragradient has a bias of
    :math:`-\eta\, E\|\epsilon\|^2` per step. Only the first evaluation updates the game's state.
    If the game has a ``project``, the optimizer is wrapped in :func:`projected`.

    Args:
      game: the game.
      make_optimizer: ``make_optimizer(**hyperparameters) -> optax transformation``, such as
        ``osj.extra_adam`` or ``functools.partial(osj.extra_adam, b1=0.5)``; called with tracers
        under vmap.
      independent_samples: ``False`` uses one minibatch for all evaluations of a step.

    Returns:
      ``(init, step)``: ``init(key, hyperparameters) -> TrainState`` and
      ``step(state, hyperparameters, data=None) -> (TrainState, StepInfo)``. Pass ``game.data`` as
      argument ``data`` of the jitted step, or it becomes a constant of the program.

    Example:
      >>> import jax
      >>> from onesided_jax import amsgrad_eg, games, make_step
      >>> init, step = make_step(games.bilinear(), amsgrad_eg)
      >>> rates = {"primal_learning_rate": 0.1, "dual_learning_rate": 0.1}
      >>> state = init(jax.random.key(0), rates)
      >>> state, info = jax.jit(step)(state, rates)
      >>> int(state.step), info.losses.primal.shape
      (1, ())
    """

    def transformation(hyperparameters):
        tx = with_extra_args(make_optimizer(**hyperparameters))
        return tx if game.project is None else projected(tx, game.project)

    def init(key: PRNGKey, hyperparameters: Mapping[str, Any]) -> TrainState:
        init_key, run_key = jax.random.split(key)
        players, state = game.init(init_key)
        opt_state = transformation(hyperparameters).init(players)
        return TrainState(players, state, opt_state, run_key, jnp.zeros((), jnp.int32))

    def step(
        train: TrainState, hyperparameters: Mapping[str, Any], data: ArrayTree = None
    ) -> tuple[TrainState, StepInfo]:
        step_key = jax.random.fold_in(train.key, train.step)

        def evaluate(players, evaluation):
            draw = evaluation if independent_samples else 0
            batch = game.batch(jax.random.fold_in(step_key, draw), data)
            return game.field(players, train.state, batch)

        def grad_fn(players, i):
            return evaluate(players, i + 1)[0]

        F, info = evaluate(train.players, 0)
        updates: Any
        updates, opt_state = transformation(hyperparameters).update(
            F, train.opt_state, train.players, grad_fn=grad_fn
        )
        opt_state = jax.tree.map(_in_dtype_of, train.opt_state, opt_state)
        players: Any = optax.apply_updates(train.players, updates)
        after = TrainState(players, info.state, opt_state, train.key, train.step + 1)
        return after, StepInfo(info.losses, F, updates)

    return init, step


def _in_dtype_of(old: Any, new: Any) -> Any:
    """Casts ``new`` to the dtype of ``old``: a traced decay rate widens low-precision moments."""
    dtypes = [jax.dtypes.result_type(leaf) for leaf in (old, new)]
    kinds = (jnp.floating, jnp.complexfloating)
    alike = any(all(jnp.issubdtype(dtype, kind) for dtype in dtypes) for kind in kinds)
    return jnp.asarray(new, dtypes[0]) if alike and dtypes[0] != dtypes[1] else new
