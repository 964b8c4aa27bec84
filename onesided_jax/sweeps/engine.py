"""The compiled heart of a sweep: W runs as one vmapped scan that freezes runs which diverge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual
from onesided_jax.sweeps.train import MakeOptimizer, TrainState, make_train

__all__ = ["Carry", "Observer", "Program", "StepView", "program"]


METRICS = ("loss_primal", "loss_dual", "gradient_norm_primal", "gradient_norm_dual")


class StepView(NamedTuple):
    """What an observer sees of one step.

    Attributes:
      before: the players before the step.
      after: the players after it.
      field: ``F`` at ``before`` on the step's minibatch.
      updates: ``after - before``, as the optimizer gave it.
      opt_state: the optimizer's state after the step.
      step: int32 scalar, the number of this step, from 1.
      hyperparameters: the run's.
    """

    before: PrimalDual
    after: PrimalDual
    field: PrimalDual
    updates: PrimalDual
    opt_state: ArrayTree
    step: jax.Array
    hyperparameters: Mapping[str, Any]


class Observer(NamedTuple):
    """A pure accumulator carried through the scan and checkpointed with the run.

    Attributes:
      init: ``players -> s``.
      update: ``(s, step_view) -> s``; called for every step of a run that has not diverged.
    """

    init: Callable[[PrimalDual], ArrayTree]
    update: Callable[[ArrayTree, StepView], ArrayTree]


class Carry(NamedTuple):
    """All that a run carries from step to step; under vmap every leaf has a leading run axis.

    Attributes:
      train: players, game state, optimizer state, key, step.
      observers: name to accumulated state.
      diverged_at: int32 scalar, the step that turned non-finite, or -1.
    """

    train: TrainState
    observers: dict[str, ArrayTree]
    diverged_at: jax.Array


class Program(NamedTuple):
    """The two compiled functions of a cell, over a run axis.

    Attributes:
      init: ``(seeds uint32[W], hyperparameters {name: float[W]}) -> Carry``, jitted.
      compile: ``(carry, hyperparameters, steps) -> executable`` for arguments of these shapes;
        ``executable(carry, hyperparameters) -> (Carry, metrics {name: float[W, records]})``
        donates the carry and tells its own ``memory_analysis()``. Asked again for the same
        shapes it returns the same executable.
    """

    init: Callable[..., Carry]
    compile: Callable[..., Any]


@functools.lru_cache(maxsize=32)
def program(
    sample: Callable[..., Any],
    field: Callable[..., Any],
    game_init: Callable[..., Any],
    make_optimizer: MakeOptimizer,
    observers: tuple[tuple[str, Observer], ...],
    independent_samples: bool,
    record_every: int,
) -> Program:
    """Builds the program of one cell; the same functions give the same (compiled) program."""
    game = Game(init=game_init, sample=sample, field=field)
    train_init, train_step = make_train(
        game, make_optimizer, independent_samples=independent_samples
    )

    def init_run(seed, hyperparameters):
        train = train_init(jax.random.key(seed), hyperparameters)
        observed = {name: observer.init(train.players) for name, observer in observers}
        return Carry(train, observed, jnp.full((), -1, jnp.int32))

    def step_run(carry: Carry, hyperparameters):
        train, info = train_step(carry.train, hyperparameters)
        view = StepView(
            before=carry.train.players,
            after=train.players,
            field=info.field,
            updates=info.updates,
            opt_state=train.opt_state,
            step=train.step,
            hyperparameters=hyperparameters,
        )
        observed = {
            name: observer.update(carry.observers[name], view) for name, observer in observers
        }
        alive = carry.diverged_at < 0
        finite = _all_finite((train.players, train.state, info.field))
        keep = alive & finite
        # A run that has diverged stays at its last finite state; select copies bits, so runs
        # that have not are untouched. The key is left out: it never changes.
        frozen_train = carry.train._replace(key=())
        new_train = _select(keep, train._replace(key=()), frozen_train)
        diverged_at = jnp.where(alive & ~finite, train.step, carry.diverged_at)
        measured = (*info.losses, *map(optax.tree.norm, info.field))
        metrics = {
            name: jnp.where(keep, value, jnp.nan)
            for name, value in zip(METRICS, measured, strict=True)
        }
        new = Carry(
            train=new_train._replace(key=carry.train.key),
            observers=_select(keep, observed, carry.observers),
            diverged_at=diverged_at,
        )
        return new, metrics

    def advance_run(carry, hyperparameters, steps):
        def unrecorded(carry, _):
            return step_run(carry, hyperparameters)[0], None

        def recorded(carry, _):
            carry, _ = jax.lax.scan(unrecorded, carry, length=record_every - 1)
            return step_run(carry, hyperparameters)

        return jax.lax.scan(recorded, carry, length=steps // record_every)

    @functools.partial(jax.jit, static_argnums=2, donate_argnums=0)
    def advance(carry, hyperparameters, steps):
        return jax.vmap(lambda c, h: advance_run(c, h, steps))(carry, hyperparameters)

    executables: dict[Any, Any] = {}

    def compile_advance(carry, hyperparameters, steps):
        leaves, treedef = jax.tree.flatten((carry, hyperparameters))
        key = (treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves), steps)
        if key not in executables:
            executables[key] = _compile(advance.lower(carry, hyperparameters, steps))
        return executables[key]

    return Program(init=jax.jit(jax.vmap(init_run)), compile=compile_advance)


def _compile(lowered: Any) -> Any:
    """Compiles, without loop fusion where that would repeat sines and the like many times over.

    XLA:CPU fuses a cheap-looking producer into each of its consumers: the carousel's phase is then
    evaluated at every use (measured: 2.3 times slower at 4,096 runs, with observers 2.5). A rule on
    counts, not on times, so that a program always compiles to the same thing.
    """
    compiled = lowered.compile()
    if jax.default_backend() != "cpu":
        return compiled
    counts = [
        (stage.cost_analysis() or {}).get("transcendentals", 0) for stage in (lowered, compiled)
    ]
    if counts[1] <= 2.5 * counts[0]:
        return compiled
    return lowered.compile(compiler_options={"xla_disable_hlo_passes": "fusion"})


def _all_finite(tree: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_and, [jnp.isfinite(leaf).all() for leaf in leaves])


def _select(condition: jax.Array, if_true: Any, if_false: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)
