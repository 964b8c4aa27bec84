"""N1 to N3: negative controls, where no ``x*`` satisfies the one-sided MVI."""

from __future__ import annotations

import jax.numpy as jnp

from onesided_jax.games.analytic._common import (
    deterministic,
    joint_lipschitz,
    no_solution,
    normal_start,
    require_number,
)
from onesided_jax.games.game import Game

__all__ = ["flip", "moving_target", "stick_slip"]


def stick_slip(
    *, kappa: float = 4.0, amplitude: float = 1.0, k: float = 4.0, omega: float = 2.0
) -> Game:
    r"""N1: a travelling wave in a well.

    :math:`f(x, y) = \tfrac\kappa2 x^2 + A\cos(kx - y) + \omega y`. For ``|x| < |A k / kappa|`` the
    sign of the primal gradient flips with ``y``, so no ``x*`` satisfies the one-sided MVI.

    Args:
      kappa: curvature of the well.
      amplitude: ``A``, height of the wave, not 0.
      k: wave number, not 0.
      omega: linear term that drives the dual.

    Returns:
      A deterministic game, primal ``f[1]``, dual ``f[1]``; starts standard normal.

    Raises:
      ValueError: for a parameter that is not a finite number, or 0 where it must not be.

    Example:
      >>> from onesided_jax import games
      >>> games.stick_slip().facts.lipschitz_xx
      20.0
    """
    require_number("kappa", kappa)
    require_number("amplitude", amplitude, "other than 0", bool)
    require_number("k", k, "other than 0", bool)
    require_number("omega", omega)

    def objective(x, y):
        wave = amplitude * jnp.cos(k * x[0] - y[0])
        return 0.5 * kappa * x[0] ** 2 + wave + omega * y[0]

    xx, xy = abs(kappa) + abs(amplitude) * k**2, abs(amplitude * k)
    facts = no_solution(xx, xy, joint_lipschitz(xx, xy, abs(amplitude)))
    return deterministic(objective, normal_start(1, 1), facts)


def moving_target(*, omega: float = 2.0) -> Game:
    r"""N2: a well whose minimum moves on a circle with the dual.

    :math:`f(x, y) = \tfrac12\|x - e(y)\|^2 + \omega y`, :math:`e(y) = (\cos y, \sin y)`. No ``x*``
    satisfies the one-sided MVI. Yet under dual rate decay the primal gradient falls, because the
    target slows down.

    Args:
      omega: linear term that drives the dual.

    Returns:
      A deterministic game, primal ``f[2]``, dual ``f[1]``; starts standard normal.

    Raises:
      ValueError: if ``omega`` is not a finite number.

    Example:
      >>> from onesided_jax import games
      >>> games.moving_target().facts.one_sided_mvi
      False
    """
    require_number("omega", omega)

    def objective(x, y):
        target = jnp.stack([jnp.cos(y[0]), jnp.sin(y[0])])
        return 0.5 * jnp.sum((x - target) ** 2) + omega * y[0]

    return deterministic(objective, normal_start(2, 1), no_solution(1.0, 1.0, None))


def flip(*, omega: float = 2.0) -> Game:
    r"""N3: a well that the dual turns upside down.

    :math:`f(x, y) = (1 - \cos x) \sin y + \omega y`. The primal gradient :math:`\sin x \sin y`
    takes both signs at every ``x`` with :math:`\sin x \ne 0`.

    Args:
      omega: linear term that drives the dual.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts standard normal.

    Raises:
      ValueError: if ``omega`` is not a finite number.

    Example:
      >>> from onesided_jax import games
      >>> games.flip().facts.lipschitz_xx
      1.0
    """
    require_number("omega", omega)
    return deterministic(
        lambda x, y: (1 - jnp.cos(x[0])) * jnp.sin(y[0]) + omega * y[0],
        normal_start(1, 1),
        no_solution(1.0, 1.0, joint_lipschitz(1.0, 1.0, 2.0)),
    )
