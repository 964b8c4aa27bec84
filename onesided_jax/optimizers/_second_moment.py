"""AMSGrad's preconditioner ``h`` in three conventions."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._players import two_counts
from onesided_jax.optimizers._trees import (
    abs_squared,
    at_least_single,
    single_full,
    single_zeros,
)
from onesided_jax.players import PrimalDual

__all__ = ["CONVENTIONS", "Convention", "SecondMoment", "advance", "init", "preconditioner"]

Convention = Literal["optax", "classic", "torch"]
CONVENTIONS = ("optax", "classic", "torch")


class SecondMoment(NamedTuple):
    r"""Running second moment of gradients and its maximum.

    With :math:`c = 1 - \beta_2^t`:

    =========== ======================================== =====================================
    convention  running maximum                          preconditioner
    =========== ======================================== =====================================
    "classic"   :math:`\hat\nu = \max(\hat\nu, \nu)`      :math:`h = \sqrt{\hat\nu} + \epsilon`
    "optax"     :math:`\hat\nu = \max(\hat\nu, \nu / c)`  :math:`h = \sqrt{\hat\nu} + \epsilon`
    "torch"     :math:`\hat\nu = \max(\hat\nu, \nu)`      :math:`h = \sqrt{\hat\nu / c} + \epsilon`
    =========== ======================================== =====================================

    The first two preconditioners never decrease; torch's may. Moments of half-precision players are
    float32. Each player has its own count, so that one can be reset alone.
    """

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: Any
    nu_max: Any


def init(params: Any, initial_accumulator: Any) -> SecondMoment:
    """The state before the first gradient; the maximum starts at ``initial_accumulator``."""
    return SecondMoment(
        count=two_counts(),
        nu=single_zeros(params),
        nu_max=single_full(params, initial_accumulator),
    )


def advance(moment: SecondMoment, gradients: Any, b2: Any, convention: Convention) -> SecondMoment:
    """Adds one gradient of both players."""

    def player(count, gradient, nu, nu_max):
        count = optax.safe_increment(count)
        correction = 1 - b2**count if convention == "optax" else 1
        nu = jax.tree.map(
            lambda g, v: (
                jnp.asarray(1 - b2, v.dtype) * abs_squared(g) + jnp.asarray(b2, v.dtype) * v
            ),
            at_least_single(gradient),
            nu,
        )
        nu_max = jax.tree.map(
            lambda m, v: jnp.maximum(m, v / jnp.asarray(correction, v.dtype)), nu_max, nu
        )
        return count, nu, nu_max

    players = map(player, moment.count, gradients, moment.nu, moment.nu_max)
    return SecondMoment(*map(PrimalDual, *players))


def preconditioner(count: Any, nu_max: Any, eps: Any, b2: Any, convention: Convention) -> Any:
    """``h`` of one player after ``count`` gradients."""
    correction = jnp.sqrt(1 - b2**count) if convention == "torch" else 1

    def metric(v_max):
        scaled = jnp.sqrt(v_max) / jnp.asarray(correction, v_max.dtype)
        return scaled + jnp.asarray(eps, v_max.dtype)

    return jax.tree.map(metric, nu_max)
