"""Checks that game, optimizer, observers and metrics fit together, before any work is done."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.errors import nearest
from onesided_jax.players import PrimalDual, make_key
from onesided_jax.sweeps.engine import (
    METRICS,
    Observer,
    StepView,
    Training,
    fresh_field_of,
    view_of,
)
from onesided_jax.sweeps.step import MakeOptimizer, make_step

__all__ = ["check_ranges", "check_step", "named_metrics", "named_observers"]


def named_observers(observers: Mapping[str, Any] | None) -> tuple[tuple[str, Observer], ...]:
    """Checks observers, and sorts them by name."""
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


def named_metrics(
    record: Mapping[str, Callable[[StepView], Any]] | None,
) -> tuple[tuple[str, Callable[[StepView], Any]], ...]:
    """Checks the user's own metrics, and sorts them by name."""
    if not isinstance(record or {}, Mapping):
        raise TypeError(
            f"record is of type {type(record).__name__}: expected a mapping, such as "
            "{'step_length': lambda view: optax.tree.norm(view.updates)}"
        )
    for name, metric in (record or {}).items():
        if name in METRICS:
            raise ValueError(f"record={name!r}: this metric is recorded already; choose a new name")
        if not callable(metric):
            raise TypeError(
                f"record[{name!r}] is of type {type(metric).__name__}: expected a function "
                "step_view -> scalar"
            )
    return tuple(sorted((record or {}).items()))


def check_ranges(make_optimizer: MakeOptimizer, hyperparameters: Mapping[str, np.ndarray]) -> None:
    """Calls ``make_optimizer`` with concrete values, so that it can check their ranges.

    Under vmap it only sees tracers. Each value of a hyperparameter is tried once, with the first
    values of the others.

    Raises:
      TypeError: if ``make_optimizer`` is an optimizer, or does not accept the hyperparameters.
      ValueError: from ``make_optimizer``, for the first value out of range.
    """
    if hasattr(make_optimizer, "update") or not callable(make_optimizer):
        raise TypeError(
            "make_optimizer is an optimizer: expected a function that makes one of "
            "hyperparameters, such as osj.adam or lambda learning_rate: optax.sgd(learning_rate)"
        )
    first = {name: float(values[0]) for name, values in hyperparameters.items()}
    _check_arguments(make_optimizer, first)
    make_optimizer(**first)
    for name, values in hyperparameters.items():
        for value in np.unique(values):
            make_optimizer(**{**first, name: float(value)})


def _check_arguments(make_optimizer: MakeOptimizer, first: Mapping[str, float]) -> None:
    """Raises an error that names the hyperparameters which ``make_optimizer`` does not accept."""
    try:
        signature = inspect.signature(make_optimizer)
    except (TypeError, ValueError):  # some built-in callables have none
        return
    try:
        signature.bind(**first)
    except TypeError as error:
        parameters = list(signature.parameters)
        wrong = [name for name in first if name not in parameters]
        hint = nearest(wrong[0], parameters) if wrong else ""
        raise TypeError(
            f"make_optimizer is called with the hyperparameters {list(first)} as keywords and "
            f"takes {parameters}: {error}{hint}"
        ) from None


@functools.lru_cache(maxsize=32)
def _checked(training: Training, names: tuple[str, ...], x64: bool) -> float:
    del x64  # part of the cache key, because traced dtypes depend on it
    game = training.game
    key = jax.eval_shape(lambda: make_key(0))
    players, state = _check_init(jax.eval_shape(game.init, key))
    batch = jax.eval_shape(game.batch, key, game.data)
    _check_field(jax.eval_shape(game.field, players, state, batch), players, state)
    init, step = make_step(
        game, training.make_optimizer, independent_samples=training.independent_samples
    )
    hyperparameters = dict.fromkeys(names, jax.ShapeDtypeStruct((), jnp.result_type(float)))
    before = jax.eval_shape(init, key, hyperparameters)
    lowered = jax.jit(step).lower(before, hyperparameters, game.data)
    after, info = lowered.out_info
    if changed := _changed(before, after):
        raise ValueError(f"a step changes {changed}: shapes and dtypes must stay the same")
    fresh = jax.tree_util.Partial(fresh_field_of(game), before, game.data)
    view = view_of(before, after, info, hyperparameters, fresh)
    for name, observer in training.observers:
        carried = jax.eval_shape(observer.init, before.players)
        if changed := _changed(carried, jax.eval_shape(observer.update, carried, view)):
            raise ValueError(
                f"observers[{name!r}].update changes {changed}: expected the shapes and dtypes "
                "of its init"
            )
    for name, metric in training.record:
        shape = jnp.shape(jax.eval_shape(metric, view))
        if shape != ():
            raise ValueError(f"record[{name!r}] returns shape {list(shape)}: expected a scalar")
    return float((lowered.cost_analysis() or {}).get("bytes accessed", 0.0))


def check_step(training: Training, names: tuple[str, ...]) -> float:
    """Traces the initial state and one step of one run; nothing is computed.

    Returns:
      Bytes accessed by one step of one run, as counted by XLA.

    Raises:
      TypeError: if the game's functions return another type than :class:`Game` says.
      ValueError: if the game's functions do not fit each other, or if a step or an observer changes
        the shape or dtype of its state.
    """
    return _checked(training, names, jax.config.values["jax_enable_x64"])


def _check_init(found: Any) -> tuple[PrimalDual, Any]:
    if not isinstance(found, tuple | list) or len(found) != 2 or _is_pair(found):
        raise TypeError(f"game.init's result is {_type(found)}: expected (players, state or ())")
    players, state = found
    if not _is_pair(players):
        raise TypeError(
            f"game.init's players are {_type(players)}: a Game's are PrimalDual(primal, dual)"
        )
    return players, state


def _check_field(found: Any, players: PrimalDual, state: Any) -> None:
    if not isinstance(found, tuple | list) or len(found) != 2 or _is_pair(found):
        raise TypeError(
            f"game.field's result is {_type(found)}: expected (F, GameInfo(losses, state))"
        )
    F, info = found
    if not _is_pair(F):
        raise TypeError(f"game.field's F is {_type(F)}: expected a PrimalDual like the players")
    if not hasattr(info, "losses") or not hasattr(info, "state"):
        raise TypeError(
            f"game.field's second result is {_type(info)}: expected GameInfo(losses, state)"
        )
    if not _is_pair(info.losses):
        raise TypeError(f"game.field's losses are {_type(info.losses)}: expected a PrimalDual")
    if changed := _difference(players, F, dtypes=False):
        raise ValueError(f"game.field's F differs from the players, {changed}")
    for name, loss in zip(PrimalDual._fields, info.losses, strict=True):
        if getattr(loss, "shape", None) != ():
            shape = getattr(loss, "shape", _type(loss))
            raise ValueError(f"game.field's losses.{name} has shape {shape}: expected a scalar")
    if changed := _difference(state, info.state):
        raise ValueError(
            f"game.field changes the game's state, {changed}: expected the same shapes and dtypes"
        )


def _is_pair(value: Any) -> bool:
    """Whether a value is a ``PrimalDual`` or another NamedTuple with the same fields."""
    return getattr(value, "_fields", None) == PrimalDual._fields


def _type(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _changed(before: Any, after: Any) -> str:
    """Describes the first change of a leaf or of the tree structure; ``""`` if there is none."""
    old, new = map(jax.tree.structure, (before, after))
    return _difference(before, after) or ("" if old == new else f"the tree from {old} to {new}")


def _difference(before: Any, after: Any, *, dtypes: bool = True) -> str:
    """Describes the first leaf in which two abstract trees differ; ``""`` if there is none."""

    def described(tree: Any) -> dict[str, str]:
        leaves, _ = jax.tree.flatten_with_path(tree)
        return {
            jax.tree_util.keystr(path): f"{leaf.dtype if dtypes else ''}{list(leaf.shape)}"
            for path, leaf in leaves
        }

    old, new = described(before), described(after)
    for name in [*old, *new]:
        if old.get(name) != new.get(name):
            return f"{name or 'it'} from {old.get(name, 'nothing')} to {new.get(name, 'nothing')}"
    return ""
