"""The compiled heart of a sweep: W runs as one vmapped scan that freezes runs which diverge."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual, make_key
from onesided_jax.sweeps.train import MakeOptimizer, StepInfo, TrainState, make_train

__all__ = [
    "Carry",
    "Observer",
    "Observers",
    "Program",
    "StepView",
    "named_observers",
    "program",
    "view_of",
]


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


def view_of(
    before: TrainState, after: TrainState, info: StepInfo, hyperparameters: Mapping[str, Any]
) -> StepView:
    """One step of ``make_train`` as observers see it."""
    return StepView(
        before=before.players,
        after=after.players,
        field=info.field,
        updates=info.updates,
        opt_state=after.opt_state,
        step=after.step,
        hyperparameters=hyperparameters,
    )


class Observer(NamedTuple):
    """A pure accumulator carried through the scan and checkpointed with the run.

    Attributes:
      init: ``players -> s``.
      update: ``(s, step_view) -> s``; called for every step of a run that has not diverged.
    """

    init: Callable[[PrimalDual], ArrayTree]
    update: Callable[[ArrayTree, StepView], ArrayTree]


Observers = tuple[tuple[str, Observer], ...]


def named_observers(observers: Mapping[str, Any] | None) -> Observers:
    """Observers in the order of their names.

    Raises:
      TypeError: for one that is no pair of functions.
    """
    if not isinstance(observers or {}, Mapping):
        raise TypeError(
            f"observers is of type {type(observers).__name__}: expected a mapping, such as "
            "{'average': (init, update)}"
        )
    for name, pair in (observers or {}).items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(callable, pair)):
            raise TypeError(
                f"observers[{name!r}] is of type {type(pair).__name__}: expected two functions "
                "(init, update), with init(players) -> s and update(s, step_view) -> s"
            )
    return tuple((name, Observer(*pair)) for name, pair in sorted((observers or {}).items()))


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
    """The compiled functions of a cell, over a run axis of ``W`` runs.

    Attributes:
      init: ``(seeds uint32[W], hyperparameters {name: float[W]}) -> Carry``, jitted.
      compile: ``(carry, hyperparameters, steps, device) -> executable`` for arguments of these
        shapes; ``executable(carry, hyperparameters) -> (Carry, metrics {name: float[W,
        records]})`` donates the carry and tells its own ``memory_analysis()``. Asked again for
        the same it returns the same executable. All devices run the same code.
      advance: ``(steps, carry, hyperparameters) -> (Carry, metrics)``, what is compiled.
    """

    init: Callable[..., Carry]
    compile: Callable[..., Any]
    advance: Callable[..., tuple[Carry, dict[str, jax.Array]]]


@functools.lru_cache(maxsize=32)
def program(
    sample: Callable[..., Any],
    field: Callable[..., Any],
    game_init: Callable[..., Any],
    make_optimizer: MakeOptimizer,
    observers: Observers,
    independent_samples: bool,
    record_every: int,
) -> Program:
    """Builds the program of one cell; the same functions give the same (compiled) program."""
    game = Game(init=game_init, sample=sample, field=field)
    train_init, train_step = make_train(
        game, make_optimizer, independent_samples=independent_samples
    )

    def init_run(seed, hyperparameters):
        train = train_init(make_key(seed), hyperparameters)
        observed = {name: observer.init(train.players) for name, observer in observers}
        return Carry(train, observed, jnp.full((), -1, jnp.int32))

    def step_run(carry: Carry, hyperparameters, clocks: TrainState):
        train, info = train_step(carry.train, hyperparameters)
        view = view_of(carry.train, train, info, hyperparameters)
        observed = {
            name: observer.update(carry.observers[name], view) for name, observer in observers
        }
        alive = carry.diverged_at < 0
        finite = _all_finite((train.players, train.state, info.field))
        keep = alive & finite
        # A run that has diverged stays at its last finite state; select copies bits, so runs
        # that have not are untouched. Clocks go on: they are common to all runs.
        new_train = jax.tree.map(
            lambda clock, a, b: a if clock else _select(keep, a, b), clocks, train, carry.train
        )
        diverged_at = jnp.where(alive & ~finite, train.step, carry.diverged_at)
        measured = (*info.losses, *map(optax.tree.norm, info.field))
        metrics = {
            name: jnp.where(keep, value, jnp.nan)
            for name, value in zip(METRICS, measured, strict=True)
        }
        new = Carry(
            train=new_train,
            observers=_select(keep, observed, carry.observers),
            diverged_at=diverged_at,
        )
        return new, metrics

    def advance(steps, carry: Carry, hyperparameters):
        one = jax.tree.map(lambda leaf: leaf[0], (carry.train, hyperparameters))
        clocks = _clocks(train_init, train_step, *one)
        train_axes = jax.tree.map(lambda clock: None if clock else 0, clocks)
        axes = Carry(train_axes, 0, 0)  # pyright: ignore[reportArgumentType]
        step = jax.vmap(
            lambda carry, h: step_run(carry, h, clocks), in_axes=(axes, 0), out_axes=(axes, 0)
        )

        def unrecorded(carry, _):
            return step(carry, hyperparameters)[0], None

        def recorded(carry, _):
            if record_every > 1:  # jax.disable_jit() refuses a scan of no steps
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

    jitted = jax.jit(advance, static_argnums=0, donate_argnums=1)
    executables: dict[Any, Any] = {}
    tracing = threading.Lock()  # the devices' threads ask at the same time; traced once is enough

    def compile_advance(carry, hyperparameters, steps, device):
        if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
            return _Interpreted(functools.partial(advance, steps))
        leaves, treedef = jax.tree.flatten((carry, hyperparameters))
        key = (treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves), steps, device)
        if key not in executables:
            there = jax.sharding.SingleDeviceSharding(device)
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there),
                (carry, hyperparameters),
            )
            with tracing:
                lowered = jitted.lower(steps, *abstract)
            executables[key] = _compile(lowered, device.platform)
        return executables[key]

    return Program(jax.jit(jax.vmap(init_run)), compile_advance, advance)


class _Interpreted:
    """In place of an executable under ``jax.disable_jit()``, where JAX runs none."""

    def __init__(self, advance: Callable[..., Any]):
        self._advance = advance

    def __call__(self, carry: Carry, hyperparameters: Any) -> Any:
        return self._advance(carry, hyperparameters)

    def memory_analysis(self) -> None:
        """Nothing is known of it."""

    def cost_analysis(self) -> None:
        """Nothing is known of it."""


def _clocks(
    train_init: Callable[..., TrainState],
    train_step: Callable[..., Any],
    train: TrainState,
    hyperparameters: Any,
) -> TrainState:
    """Which leaves of a run's state are the same for all runs: the step, an optimizer's counts.

    They begin as constants and depend on nothing but themselves and each other; what a game counts
    in its state is not among them, for it stops where a run does. Computed once instead of once a
    run, what follows from them (``b2**count``) costs nothing; for a game of three numbers that was
    a third of the step. Found by following the equations of both functions.
    """
    begins = _sources(train_init, make_key(0), hyperparameters)
    depends = _sources(lambda train: train_step(train, hyperparameters)[0], train)
    leaves, treedef = jax.tree.flatten(train)
    of_game = jax.tree.leaves(
        jax.tree.map(lambda _: False, train)._replace(
            state=jax.tree.map(lambda _: True, train.state)
        )
    )
    clocks = {
        i
        for i, leaf in enumerate(leaves)
        if jnp.issubdtype(leaf.dtype, jnp.integer)
        and leaf.ndim == 0
        and not (begins[i] or of_game[i])
    }
    while True:
        remaining = {i for i in clocks if depends[i] <= clocks}
        if remaining == clocks:
            break
        clocks = remaining
    return jax.tree.unflatten(treedef, [i in clocks for i in range(len(leaves))])


def _sources(function: Callable[..., Any], *arguments: Any) -> list[frozenset[int]]:
    """Of each leaf of the result, the leaves of the arguments that it is made of; -1: any other.

    What the function closes over counts as other: it may be a tracer, of a value of each run.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    sources: dict[Any, frozenset[int]] = {v: frozenset([i]) for i, v in enumerate(jaxpr.invars)}
    sources |= {v: frozenset([-1]) for v in jaxpr.constvars}

    def sources_of(atoms):
        return frozenset().union(*(sources.get(a, ()) for a in atoms if not hasattr(a, "val")))

    for equation in jaxpr.eqns:
        found = sources_of(equation.invars)
        sources |= dict.fromkeys(equation.outvars, found)
    return [sources_of([out]) for out in jaxpr.outvars]


def _compile(lowered: Any, platform: str) -> Any:
    """Compiles, without loop fusion where that would repeat sines and the like many times over.

    XLA:CPU fuses a cheap-looking producer into each of its consumers: the carousel's phase is then
    evaluated at every use (measured: 2.3 times slower at 4,096 runs, with observers 2.5). A rule on
    counts, not on times, so that a program always compiles to the same thing.
    """
    compiled = lowered.compile()
    if platform != "cpu":
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
