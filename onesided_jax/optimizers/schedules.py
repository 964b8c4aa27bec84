"""Learning-rate schedules of the min-max literature."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_hyperparameters

__all__ = ["dual_rate_decay"]


def dual_rate_decay(init_value: Any, power: Any = 0.5) -> optax.Schedule:
    r"""Polynomial decay of the dual player's rate, :math:`\eta_{y,t} = \eta_y\, t^{-p}, t \ge 1`.

    With this decay of the dual extrapolation, AMSGrad extragradient reaches one-sided stationary
    points at rate :math:`O(T^{-2p})` for ``power < 1/2`` and :math:`O(\log T / T)` at ``1/2``. We
    do not know the exponent of the original paper; ``1/2`` is our default.

    Args:
      init_value: non-negative rate at the first iteration; float, scalar array or tracer.
      power: exponent ``p >= 0``; float, scalar array or tracer.

    Returns:
      An optax schedule, ``count -> init_value * (count + 1) ** -power``, ``count = 0, 1, ...``

    Raises:
      ValueError: if a concrete argument is negative or not finite.

    Example:
      >>> from onesided_jax import dual_rate_decay
      >>> rate = dual_rate_decay(0.1, power=0.5)
      >>> [round(float(rate(count)), 4) for count in (0, 3, 99)]
      [0.1, 0.05, 0.01]

    References:
      Dou & Li, `On the One-sided Convergence of Adam-type Algorithms in Non-convex Non-concave
      Min-max Optimization <https://arxiv.org/abs/2109.14213>`_, 2021 (dual rate decay).
    """
    check_hyperparameters(init_value=init_value, power=power)

    def schedule(count):
        return init_value * (jnp.asarray(count, jnp.result_type(float)) + 1) ** -power

    return schedule
