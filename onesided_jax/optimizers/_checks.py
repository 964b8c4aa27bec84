"""Argument checks shared by the optimizer factories; tracers and arrays pass unchecked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax

_NESTING = """\
{name} received params with optax.MaskedNode leaves: it stands inside optax.partition, \
optax.masked or descent_ascent, where it sees one player only, but it needs both. \
Put it outside: {right}"""
_RIGHT = {
    "extragradient": "extragradient(descent_ascent(primal, dual))",
    "extragradient_plus": "extragradient_plus(descent_ascent(primal, dual))",
    "past_extragradient": "past_extragradient(descent_ascent(primal, dual))",
    "anchored": "anchored(descent_ascent(primal, dual))",
    "consensus": "consensus(descent_ascent(primal, dual), strength)",
    "lookahead_minmax": "lookahead_minmax(descent_ascent(primal, dual), ...)",
    "optimistic": "optimistic(descent_ascent(primal, dual))",
    "alternating": "alternating(primal, dual), masks inside the players' transformations",
    "descent_ascent": "descent_ascent(primal, dual), masks inside the players' transformations",
}


def check_number(name: str, value: Any, *, low: float = 0.0, high: float = math.inf) -> None:
    """Raises ``ValueError`` unless a concrete number is finite and in ``[low, high)``."""
    if isinstance(value, (int, float, np.number)) and not (
        math.isfinite(value) and low <= value < high
    ):
        bounds = f"{low:g} <= {name}" + (f" < {high:g}" if math.isfinite(high) else " < infinity")
        raise ValueError(f"{name}={value!r}: expected a finite number with {bounds}")


def check_numbers(**values: Any) -> None:
    """:func:`check_number` of each: betas in ``[0, 1)``, all else from 0 up."""
    for name, value in values.items():
        is_beta = name.startswith(("b1", "b2", "dual_b"))
        check_number(name, value, high=1.0 if is_beta else math.inf)


def check_count(name: str, value: Any) -> None:
    """Raises ``ValueError`` unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        hint = (
            f"; inject_hyperparams takes static_args=({name!r},)"
            if isinstance(value, jax.Array)
            else ""
        )
        raise ValueError(f"{name}={value!r}: expected an integer >= 1{hint}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ``ValueError`` naming the nearest valid choice unless ``value`` is one of them."""
    choices = list(choices)
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name}={value!r}: expected one of {choices}{hint}")


def check_not_masked(name: str, tree: Any) -> None:
    """Raises ``ValueError`` with the right nesting if ``tree`` has been masked by a partition."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        right = _RIGHT.get(name, f"{name}(primal_learning_rate, dual_learning_rate)")
        raise ValueError(_NESTING.format(name=name, right=right))


def check_params(name: str, params: Any) -> None:
    """Raises ``ValueError`` if ``update`` was called without params, or inside a partition."""
    if params is None:
        raise ValueError(f"{name} needs params: call update(F, state, params)")
    check_not_masked(name, params)


def check_midpoint_arguments(name: str, params: Any, grad_fn: Any) -> None:
    """Raises ``ValueError`` if what the second evaluation needs was not passed to ``update``."""
    if params is None:
        raise ValueError(f"{name} needs params: call update(F, state, params, grad_fn=...)")
    if grad_fn is None:
        raise ValueError(
            f"{name} evaluates the field again at other players and needs grad_fn: "
            "call update(F, state, params, grad_fn=lambda params, i: F)"
        )
    check_not_masked(name, params)
