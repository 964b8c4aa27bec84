"""Helpers of the analytic games."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from onesided_jax.games.game import Game, GameFacts, zero_sum_field
from onesided_jax.players import PrimalDual

__all__ = [
    "deterministic",
    "joint_lipschitz",
    "no_solution",
    "normal_start",
    "require_number",
]


def require_number(
    name: str,
    value: Any,
    expected: str = "",
    holds: Callable[[Any], bool] = lambda value: True,
) -> None:
    """Raises ``ValueError`` unless ``value`` is a finite number and ``holds(value)`` is true."""
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 0:
        value = value.item()
    number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    if not (number and math.isfinite(value) and holds(value)):
        raise ValueError(f"{name}={value!r}: expected a finite number {expected}".rstrip())


def deterministic(objective, start, facts: GameFacts) -> Game:
    """Makes a zero-sum game without minibatches."""
    return Game(
        init=lambda key: (start(key), ()),
        sample=lambda key: (),
        field=zero_sum_field(objective),
        facts=facts,
    )


def normal_start(primal_dim: int, dual_dim: int, scale: float = 1.0):
    """Makes ``key -> players`` with independent normal coordinates."""

    def start(key):
        z = scale * jax.random.normal(key, (primal_dim + dual_dim,))
        return PrimalDual(z[:primal_dim], z[primal_dim:])

    return start


def joint_lipschitz(xx: float, xy: float, yy: float) -> float:
    """Bound on the Jacobian of ``F``, from bounds on its blocks."""
    return float(np.linalg.norm([[xx, xy], [xy, yy]], 2))


def no_solution(lipschitz_xx: float, lipschitz_xy: float, lipschitz: float | None) -> GameFacts:
    """Facts of a game in which no condition holds."""
    return GameFacts(None, None, False, False, lipschitz_xx, lipschitz_xy, lipschitz)
