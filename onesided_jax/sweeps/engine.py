"""The program of a cell: a vmapped scan of W runs that freezes each run that diverges."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual, make_key
from onesided_jax.runs import Runs
from onesided_jax.sweeps.clocks import find_clocks
from onesided_jax.sweeps.step import MakeOptimizer, StepInfo, TrainState, make_step

__all__ = [
    "EMA",
    "METRICS",
    "Carry",
    "Observer",
    "Plan",
    "Program",
    "StepView",
    "Training",
    "average",
    "fresh_field_of",
    "program",
    "view_of",
]

METRICS = ("loss_primal", "loss_dual", "gradient_norm_primal", "gradient_norm_dual")
EMA = "ema"
"""The observer that holds the moving average of the primal player."""


class StepView(NamedTuple):
    """One step of one run, as passed to observers and metrics.

    Attributes:
      before: the players before the step.
      after: the players after it.
      field: ``F`` at ``before`` on the step's minibatch.
      updates: the optimizer's updates, ``after - before`` up to rounding.
      opt_state: the optimizer's state after the step.
      step: int32 scalar, the number of this step, from 1.
      hyperparameters: the run's hyperparameters.
      fresh_field: ``(players, i=0) -> F`` on the step's ``i``-th fresh minibatch, which training
        never uses, with the game's state before the step. It costs nothing unless called.
    """

    before: PrimalDual
    after: PrimalDual
    field: PrimalDual
    updates: PrimalDual
    opt_state: ArrayTree
    step: jax.Array
    hyperparameters: Mapping[str, Any]
    fresh_field: Callable[..., PrimalDual]


_FRESH = 2**31 - 1  # folded into a step's key; evaluations of an optimizer have smaller numbers


def fresh_field_of(game: Game) -> Callable[..., PrimalDual]:
    """Returns ``(train, data, players, i=0) -> F`` on minibatches that training never uses."""

    def fresh_field(train: TrainState, data: ArrayTree, players: PrimalDual, i: Any = 0):
        key = jax.random.fold_in(jax.random.fold_in(train.key, train.step), _FRESH)
        return game.field(players, train.state, game.batch(jax.random.fold_in(key, i), data))[0]

    return fresh_field


def view_of(
    before: TrainState,
    after: TrainState,
    info: StepInfo,
    hyperparameters: Mapping[str, Any],
    fresh_field: Callable[..., PrimalDual],
) -> StepView:
    """Builds the view of one step of ``make_step``."""
    return StepView(
        before=before.players,
        after=after.players,
        field=info.field,
        updates=info.updates,
        opt_state=after.opt_state,
        step=after.step,
        hyperparameters=hyperparameters,
        fresh_field=fresh_field,
    )


class Observer(NamedTuple):
    """A pure accumulator carried through the scan and checkpointed with the run.

    Attributes:
      init: ``players -> s``.
      update: ``(s, step_view) -> s``; called for every step of a run that has not diverged.
    """

    init: Callable[[PrimalDual], ArrayTree]
    update: Callable[[ArrayTree, StepView], ArrayTree]


@functools.lru_cache(maxsize=32)
def average(decay: float) -> Observer:
    """The exponential moving average of the primal player, from its initial value on."""

    def update(mean: ArrayTree, view: StepView) -> ArrayTree:
        return jax.tree.map(one, mean, view.after.primal)

    def one(mean: jax.Array, value: jax.Array) -> jax.Array:
        floats = jnp.issubdtype(mean.dtype, jnp.inexact)
        return mean + (1 - decay) * (value - mean) if floats else value

    return Observer(lambda players: players.primal, update)


class Carry(NamedTuple):
    """The carry of the scan; under vmap every leaf has a leading run axis.

    Attributes:
      train: players, game state, optimizer state, key, step.
      observers: name to accumulated state.
      diverged_at: int32 scalar, the step that turned non-finite, or -1.
    """

    train: TrainState
    observers: dict[str, ArrayTree]
    diverged_at: jax.Array


class Training(NamedTuple):
    """Everything that defines a cell's program; hashable, so that programs can be cached.

    Attributes:
      game: the game.
      make_optimizer: ``make_optimizer(**hyperparameters) -> optax transformation``.
      observers: ``(name, Observer)`` pairs, sorted by name.
      record: ``(name, step_view -> scalar)`` pairs, sorted by name: metrics besides `METRICS`.
      independent_samples: see :func:`make_step`.
      record_every: steps between recorded metrics.
      ema: decay of the moving average of the primal player; ``None`` for no average.
    """

    game: Game
    make_optimizer: MakeOptimizer
    observers: tuple[tuple[str, Observer], ...] = ()
    record: tuple[tuple[str, Callable[[StepView], Any]], ...] = ()
    independent_samples: bool = True
    record_every: int = 1
    ema: float | None = None

    def carried(self) -> tuple[tuple[str, Observer], ...]:
        """The observers, including that of the moving average."""
        return self.observers + (() if self.ema is None else ((EMA, average(self.ema)),))


class Plan(NamedTuple):
    """One cell: its training, runs and number of steps.

    Attributes:
      training: the training.
      runs: seeds and hyperparameters of the runs.
      steps: training steps, a multiple of ``checkpoint_every``.
      checkpoint_every: steps per chunk.
    """

    training: Training
    runs: Runs
    steps: int
    checkpoint_every: int


class Program(NamedTuple):
    """The pure functions of a cell, over a run axis of any length.

    Attributes:
      init: ``(seeds uint32[W], hyperparameters {name: float[W]}) -> Carry``.
      advance: ``(steps, carry, hyperparameters, data) -> (Carry, metrics {name: float[W,
        records]})``.
    """

    init: Callable[..., Carry]
    advance: Callable[..., tuple[Carry, dict[str, jax.Array]]]


@functools.lru_cache(maxsize=32)
def program(training: Training) -> Program:
    """Builds the program of one cell, cached by its training."""
    train_init, train_step = make_step(
        training.game, training.make_optimizer, independent_samples=training.independent_samples
    )
    observers, record_every = training.carried(), training.record_every
    fresh_field = fresh_field_of(training.game)

    def init_run(seed, hyperparameters):
        train = train_init(make_key(seed), hyperparameters)
        observed = {name: observer.init(train.players) for name, observer in observers}
        return Carry(train, observed, jnp.full((), -1, jnp.int32))

    def step_run(carry: Carry, hyperparameters, data, clocks: TrainState):
        train, info = train_step(carry.train, hyperparameters, data)
        fresh = jax.tree_util.Partial(fresh_field, carry.train, data)  # keeps the view a pytree
        view = view_of(carry.train, train, info, hyperparameters, fresh)
        observed = {
            name: observer.update(carry.observers[name], view) for name, observer in observers
        }
        alive = carry.diverged_at < 0
        finite = _all_finite((train.players, train.state, info.field))
        keep = alive & finite
        # A diverged run stays at its last finite state. The other runs keep their bits, because
        # select copies. Clocks advance, because all runs share them.
        new_train = jax.tree.map(
            lambda clock, a, b: a if clock else _select(keep, a, b), clocks, train, carry.train
        )
        metrics = dict(zip(METRICS, (*info.losses, *map(optax.tree.norm, info.field)), strict=True))
        metrics |= {name: jnp.asarray(metric(view), float) for name, metric in training.record}
        new = Carry(
            train=new_train,
            observers=_select(keep, observed, carry.observers),
            diverged_at=jnp.where(alive & ~finite, train.step, carry.diverged_at),
        )
        return new, {name: jnp.where(keep, value, jnp.nan) for name, value in metrics.items()}

    def advance(steps, carry: Carry, hyperparameters, data):
        one = jax.tree.map(lambda leaf: leaf[0], (carry.train, hyperparameters))
        clocks = find_clocks(train_init, functools.partial(train_step, data=data), *one)
        train_axes = jax.tree.map(lambda clock: None if clock else 0, clocks)
        axes = Carry(train_axes, 0, 0)  # pyright: ignore[reportArgumentType]
        step = jax.vmap(
            lambda carry, h: step_run(carry, h, data, clocks), in_axes=(axes, 0), out_axes=(axes, 0)
        )

        def unrecorded(carry, _):
            return step(carry, hyperparameters)[0], None

        def recorded(carry, _):
            if record_every > 1:  # jax.disable_jit() does not allow a scan of length 0
                carry, _ = jax.lax.scan(unrecorded, carry, length=record_every - 1)
            return step(carry, hyperparameters)

        def shared(clock, leaf):
            return leaf[0] if clock else leaf

        def spread(clock, leaf):
            return jnp.broadcast_to(leaf, (len(carry.diverged_at),)) if clock else leaf

        carry = carry._replace(train=jax.tree.map(shared, clocks, carry.train))
        carry, metrics = jax.lax.scan(recorded, carry, length=steps // record_every)
        carry = carry._replace(train=jax.tree.map(spread, clocks, carry.train))
        return carry, jax.tree.map(lambda records: records.T, metrics)

    return Program(jax.vmap(init_run), advance)


def _all_finite(tree: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in leaves])


def _select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)
