"""Argument checks shared by the optimizer factories; tracers and arrays pass unchecked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import optax

from onesided_jax.players import PrimalDual

_NESTING = """\
{name} received params with optax.MaskedNode leaves: it stands inside optax.partition, \
optax.masked or descent_ascent, where it sees one player only, but its midpoint needs both. \
Put it outside: {right}"""
_RIGHT = {
    "extragradient": "extragradient(descent_ascent(primal, dual))",
    "amsgrad_eg": "amsgrad_eg(primal_learning_rate, dual_learning_rate)",
    "descent_ascent": "descent_ascent(primal, dual), masks inside the players' transformations",
}


def check_number(name: str, value: Any, *, low: float = 0.0, high: float = math.inf) -> None:
    """Raises ``ValueError`` unless a concrete number is finite and in ``[low, high)``."""
    if isinstance(value, (int, float, np.number)) and not (
        math.isfinite(value) and low <= value < high
    ):
        bounds = f"{low:g} <= {name}" + (f" < {high:g}" if math.isfinite(high) else " < infinity")
        raise ValueError(f"{name}={value!r}: expected a finite number with {bounds}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ``ValueError`` naming the nearest valid choice unless ``value`` is one of them."""
    choices = list(choices)
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name}={value!r}: expected one of {choices}{hint}")


def check_players(name: str, tree: Any) -> None:
    """Raises ``ValueError`` unless ``tree`` is a whole :class:`PrimalDual`."""
    if tree is None:
        raise ValueError(
            f"{name} needs params: pass the players to init, and to update(F, state, params, ...)"
        )
    if not isinstance(tree, PrimalDual):
        raise ValueError(
            f"{name} expected the players as PrimalDual(primal, dual), got {type(tree).__name__}"
        )
    check_not_masked(name, tree)


def check_not_masked(name: str, tree: Any) -> None:
    """Raises ``ValueError`` with the right nesting if ``tree`` has been masked by a partition."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))
    if any(isinstance(leaf, optax.MaskedNode) for leaf in leaves):
        raise ValueError(_NESTING.format(name=name, right=_RIGHT[name]))


def check_midpoint_arguments(name: str, params: Any, grad_fn: Any) -> None:
    """Raises ``ValueError`` if what the second evaluation needs was not passed to ``update``."""
    if params is None:
        raise ValueError(f"{name} needs params: call update(F, state, params, grad_fn=...)")
    if grad_fn is None:
        raise ValueError(
            f"{name} evaluates the field at a midpoint and needs grad_fn: "
            "call update(F, state, params, grad_fn=lambda params, i: F)"
        )
