"""AMSGrad's preconditioner ``h`` in the three conventions in use."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._trees import abs_squared, at_least_single

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

    The first two never decrease; torch's may. Those of half-precision players are float32.
    """

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: Any
    nu_max: Any


def init(params: Any, initial_accumulator: Any) -> SecondMoment:
    """No gradient seen; the maximum starts at ``initial_accumulator``."""
    params = at_least_single(params)
    return SecondMoment(
        count=jnp.zeros((), jnp.int32),
        nu=jax.tree.map(jnp.zeros_like, params),
        nu_max=jax.tree.map(lambda p: jnp.full_like(p, initial_accumulator), params),
    )


def advance(moment: SecondMoment, gradients: Any, b2: Any, convention: Convention) -> SecondMoment:
    """Takes in one gradient."""
    count = optax.safe_increment(moment.count)
    correction = 1 - b2**count if convention == "optax" else 1

    def average(g, v):
        return jnp.asarray(1 - b2, v.dtype) * abs_squared(g) + jnp.asarray(b2, v.dtype) * v

    def maximum(v_max, v):
        return jnp.maximum(v_max, v / jnp.asarray(correction, v.dtype))

    nu = jax.tree.map(average, at_least_single(gradients), moment.nu)
    return SecondMoment(count, nu, jax.tree.map(maximum, moment.nu_max, nu))


def preconditioner(
    moment: SecondMoment, part: Any, eps: Any, b2: Any, convention: Convention
) -> Any:
    """``h`` of ``part``, one player's share of ``moment.nu_max``."""
    correction = jnp.sqrt(1 - b2**moment.count) if convention == "torch" else 1

    def metric(v_max):
        scaled = jnp.sqrt(v_max) / jnp.asarray(correction, v_max.dtype)
        return scaled + jnp.asarray(eps, v_max.dtype)

    return jax.tree.map(metric, part)
