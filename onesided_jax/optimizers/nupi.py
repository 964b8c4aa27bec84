"""A PI controller for Lagrange multipliers."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._trees import cast_like, rate_at

__all__ = ["NupiState", "nupi"]


class NupiState(NamedTuple):
    r"""State of :func:`nupi`.

    Attributes:
      count: int32 scalar, gradients seen.
      xi: their running mean :math:`\xi_{t-1}`, a tree like the params.
    """

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    xi: Any


def nupi(
    learning_rate: Any,
    *,
    kp: Any = 1.0,
    ki: Any = 1.0,
    nu: Any = 0.0,
    first_step: Literal["sgd", "zero"] = "sgd",
) -> optax.GradientTransformation:
    r"""nuPI: reacts to a constraint violation and to its change.

    Plain dual ascent adds up violations, so a multiplier still grows while the violation shrinks,
    and overshoots. The proportional term slows it down. With :math:`e_t` the gradient that the
    player descends (for a multiplier, minus the violation):

    .. math::
      \xi_t = \nu \xi_{t-1} + (1 - \nu) e_t, \qquad
      \theta_{t+1} = \theta_t - \eta \big(\kappa_i e_t + \kappa_p (\xi_t - \xi_{t-1})\big)

    ``kp=0`` is gradient descent with rate ``learning_rate * ki``; ``kp=ki, nu=0`` is the optimistic
    method.

    Args:
      learning_rate: :math:`\eta`, non-negative float, scalar array, tracer, or schedule.
      kp: proportional gain :math:`\kappa_p \ge 0`; float, scalar array or tracer. A larger gain
        damps more; too large a gain amplifies noise.
      ki: integral gain :math:`\kappa_i \ge 0`; the same types.
      nu: :math:`\nu` in ``[0, 1)``, smoothing of the gradient in the proportional term.
      first_step: ``"sgd"`` makes the first step without the proportional term and starts from
        :math:`\xi_0 = 0`, as Cooper's code does by default. ``"zero"`` starts from
        :math:`\xi_{-1} = 0`.

    Returns:
      A transformation of one player, as in ``descent_ascent(optax.adam(1e-3), nupi(1e-2))``. Its
      state holds one copy of that player. It descends, because the field has the max player's sign.

    Raises:
      ValueError: for a concrete number out of range, or an unknown ``first_step``.

    Example:
      >>> import optax
      >>> from onesided_jax import nupi
      >>> tx = nupi(0.1, kp=10.0)
      >>> multiplier, state = 0.0, nupi(0.1).init(0.0)
      >>> for violation in (2.0, 1.0, 0.5):
      ...     update, state = tx.update(-violation, state)
      ...     multiplier += update
      ...     print(round(float(multiplier), 3))
      0.2
      1.3
      0.85

    References:
      Sohrabi, Ramirez, Zhang, Lacoste-Julien & Gallego-Posada, `On PI controllers for updating
      Lagrange multipliers in constrained optimization <https://arxiv.org/abs/2406.04558>`_, 2024,
      Algorithm 1.
    """
    check_hyperparameters(learning_rate=learning_rate, kp=kp, ki=ki, nu=nu)
    check_choice("first_step", first_step, ("sgd", "zero"))

    def init(params):
        return NupiState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        rate = rate_at(learning_rate, state.count)
        begun = (state.count > 0) | (first_step == "zero")

        def step(e, xi):
            weights = (jnp.asarray(value, xi.dtype) for value in (rate, ki, kp, 1 - nu))
            eta, integral, proportional, fresh = weights
            change = jnp.where(begun, fresh * (e - xi), 0)
            return -eta * (integral * e + proportional * change), jnp.where(begun, xi + change, xi)

        pairs = jax.tree.map(step, updates, state.xi)
        moved, xi = (jax.tree.map(lambda _, pair, i=i: pair[i], state.xi, pairs) for i in (0, 1))
        count = optax.safe_increment(state.count)
        return moved, NupiState(count, cast_like(xi, state.xi))

    return optax.GradientTransformation(init, update)
