"""Argument checks of the optimizer factories; for a tracer only the dtype is checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from onesided_jax.errors import check_integers

__all__ = ["check_hyperparameters"]

_NESTING = """\
{name} received params with optax.MaskedNode leaves: inside optax.partition, optax.masked \
or descent_ascent it sees one player, but it needs both. Put it outside: {right}"""
_RIGHT = {
    "extragradient": "extragradient(descent_ascent(primal, dual))",
    "extragradient_plus": "extragradient_plus(descent_ascent(primal, dual))",
    "past_extragradient": "past_extragradient(descent_ascent(primal, dual))",
    "anchored": "anchored(descent_ascent(primal, dual))",
    "consensus": "consensus(descent_ascent(primal, dual), strength)",
    "lookahead_minmax": "lookahead_minmax(descent_ascent(primal, dual), ...)",
    "optimistic": "optimistic(descent_ascent(primal, dual))",
    "alternating_extrapolation": "alternating_extrapolation(primal, dual), masks inside the "
    "players' transformations",
    "alternating": "alternating(primal, dual), masks inside the players' transformations",
    "descent_ascent": "descent_ascent(primal, dual), masks inside the players' transformations",
}
_SCHEDULED_RATES = (
    "learning_rate",
    "primal_learning_rate",
    "dual_learning_rate",
    "dual_extrapolation_learning_rate",
)
_RATES = (*_SCHEDULED_RATES, "init_value")
_MOMENTA = ("b1_update", "b1_extrapolation", "dual_b1")
_SCHEDULED = (*_SCHEDULED_RATES, *_MOMENTA)
_SIZES = ("eps", "dual_eps", "power", "update_scale", "initial_accumulator")
_GAINS = ("gamma", "delta", "kp", "ki")
_RANGES: dict[str, tuple[float, float, bool]] = {  # low, high, whether high is allowed
    **dict.fromkeys((*_RATES, *_SIZES, *_GAINS, "strength", "tolerance"), (0.0, math.inf, False)),
    **dict.fromkeys(("b1", "b2", *_MOMENTA, "primal_power", "dual_power", "nu"), (0.0, 1.0, False)),
    "slow_step_size": (0.0, 1.0, True),
}


def check_hyperparameters(**values: Any) -> None:
    """Checks values of optimizer arguments, given by argument name.

    The optimizers call this themselves. Call it on the axes of a search before the search starts.

    Args:
      **values: numbers or arrays. ``None`` and unknown names pass. For a tracer only the dtype is
        checked.

    Raises:
      ValueError: for a value that is not a finite real number in range; for a schedule where a
        number is expected; for an array narrower than float32 that is not a learning rate.

    Example:
      >>> from onesided_jax.optimizers import check_hyperparameters
      >>> check_hyperparameters(primal_learning_rate=[1e-4, 1e-3], b2=0.99)
      >>> check_hyperparameters(b2=[0.9, 1.5])
      Traceback (most recent call last):
      ...
      ValueError: b2=1.5: expected a finite number with 0 <= b2 < 1
    """
    for name, value in values.items():
        if name in _RANGES and value is not None:
            _check_hyperparameter(name, value)


def _check_hyperparameter(name: str, value: Any) -> None:
    if callable(value):
        if name in _SCHEDULED:
            return
        raise ValueError(
            f"{name}={value!r}: expected a number, got a schedule; "
            "wrap the optimizer in optax.inject_hyperparams, which evaluates schedules"
        )
    dtype = jnp.result_type(value) if isinstance(value, jax.Array) else np.asarray(value).dtype
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        raise ValueError(f"{name}={value!r}: expected a real number")
    if name not in _RATES and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).nmant < 23:
        raise ValueError(
            f"{name} is {dtype}, where 0.999 may round to 1 and 1e-8 to 0: expected float32 or "
            "wider; optax.inject_hyperparams takes hyperparam_dtype=jnp.float32"
        )
    try:
        concrete = np.asarray(value)
    except (jax.errors.TracerArrayConversionError, RuntimeError):
        return  # a tracer, or an array that is sharded over several processes
    _check_range(name, concrete)


def _check_range(name: str, values: np.ndarray) -> None:
    low, high, closed = _RANGES[name]
    numbers = values.astype(np.float64)
    inside = (low <= numbers) & ((numbers <= high) if closed else (numbers < high))
    if not inside.all():
        bound = "infinity" if math.isinf(high) else f"{high:g}"
        hint = ""
        if name in _RATES and (numbers < 0).any():
            hint = "; both players descend F: the max player's sign lives in the field"
        raise ValueError(
            f"{name}={values[~inside].flat[0]}: expected a finite number with "
            f"{low:g} <= {name} {'<=' if closed else '<'} {bound}{hint}"
        )


def check_count(name: str, value: Any) -> None:
    """Raises ``ValueError`` unless ``value`` is an integer of at least 1."""
    if isinstance(value, jax.Array):
        raise ValueError(
            f"{name}={value!r}: expected an integer >= 1; "
            f"inject_hyperparams takes static_args=({name!r},)"
        )
    check_integers(**{name: value})


def check_not_masked(name: str, tree: Any) -> None:
    """Raises ``ValueError`` with the correct nesting if ``tree`` is masked."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        right = _RIGHT.get(name, f"{name}(primal_learning_rate, dual_learning_rate)")
        raise ValueError(_NESTING.format(name=name, right=right))


def check_params(name: str, params: Any) -> None:
    """Raises ``ValueError`` if ``params`` is missing or masked."""
    if params is None:
        raise ValueError(f"{name} needs params: call update(F, state, params)")
    check_not_masked(name, params)


def checked_grad_fn(name: str, field: Any, params: Any, grad_fn: Any) -> Callable[[Any, Any], Any]:
    """Wraps ``grad_fn`` so that a result unlike ``field`` raises ``ValueError``.

    Also raises ``ValueError`` at once if ``params`` or ``grad_fn`` is missing.
    """
    if params is None:
        raise ValueError(f"{name} needs params: call update(F, state, params, grad_fn=...)")
    if grad_fn is None:
        raise ValueError(
            f"{name} evaluates the field at further points and needs grad_fn: "
            "call update(F, state, params, grad_fn=lambda params, i: F)"
        )
    check_not_masked(name, params)

    def checked(players: Any, i: Any) -> Any:
        returned = grad_fn(players, i)
        check_returned_field(name, returned, field)
        return returned

    return checked


def check_returned_field(name: str, returned: Any, field: Any) -> None:
    """Raises ``ValueError`` unless ``grad_fn`` returned the structure and shapes of ``field``."""
    got, expected = (dict(jax.tree.flatten_with_path(tree)[0]) for tree in (returned, field))
    if jax.tree.structure(returned) != jax.tree.structure(field):
        odd = [path for path in (*got, *expected) if (path in got) != (path in expected)]
        where = f" at {jax.tree_util.keystr(odd[0])}" if odd and odd[0] else ""
        alone = "; return F alone, without a loss or aux" if type(returned) is tuple else ""
        raise ValueError(
            f"{name}: grad_fn returned a {type(returned).__name__} that differs{where} from the "
            f"{type(field).__name__} given to update as F: expected the same structure{alone}"
        )
    for path, leaf in expected.items():
        if np.shape(got[path]) != np.shape(leaf):
            raise ValueError(
                f"{name}: grad_fn returned shape {np.shape(got[path])} at "
                f"{jax.tree_util.keystr(path) or 'its only leaf'}, expected {np.shape(leaf)} "
                "as in the F given to update"
            )
