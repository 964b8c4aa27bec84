"""G8 to G10: games whose solution satisfies no MVI, or only a weak one."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from onesided_jax.games.analytic._common import (
    deterministic,
    normal_start,
    require_number,
)
from onesided_jax.games.game import Game, GameFacts, GameInfo
from onesided_jax.players import PrimalDual

__all__ = ["forsaken", "polar", "weak_minty"]


def forsaken() -> Game:
    r"""G8, Forsaken: two limit cycles around the only stationary point; no MVI.

    :math:`f(x, y) = x (y - .45) + \phi(x) - \phi(y)` with
    :math:`\phi(z) = z^2/4 - z^4/2 + z^6/6`. Cycles surround the only stationary point,
    :math:`z^* = (0.0780..., 0.4119...)`, and attract descent-ascent and extragradient. The MVI
    fails at this point, hence everywhere.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are normal with deviation 0.5.

    Example:
      >>> from onesided_jax import games
      >>> games.forsaken().facts.primal_solution.round(4)
      array([0.078])

    References:
      Hsieh, Mertikopoulos & Cevher, `The Limits of Min-Max Optimization Algorithms
      <https://arxiv.org/abs/2006.09065>`_, 2021.
    """

    def phi(z):
        return z**2 / 4 - z**4 / 2 + z**6 / 6

    x, y = 0.07802667, 0.41193385
    for _ in range(3):  # Newton steps, from six digits to full precision
        residual = np.array([y - 0.45 + _slope(x), _slope(y) - x])
        jacobian = np.array([[_curvature(x), 1.0], [-1.0, _curvature(y)]])
        x, y = np.array([x, y]) - np.linalg.solve(jacobian, residual)
    box = 1.5
    facts = GameFacts(
        np.array([x]), np.array([y]), False, False, _curvature(box), 1.0, _curvature(box) + 1, box
    )
    return deterministic(
        lambda x, y: x[0] * (y[0] - 0.45) + phi(x[0]) - phi(y[0]), normal_start(1, 1, 0.5), facts
    )


def _slope(z):
    """Derivative of Forsaken's ``phi``."""
    return z / 2 - 2 * z**3 + z**5


def _curvature(z):
    return 0.5 - 6 * z**2 + 5 * z**4


def polar(*, a: float = 1 / 3) -> Game:
    r"""G9, a field without ``f``: limit cycles at radius 3/4 (repelling) and 1 (attracting).

    :math:`F = g(r)\,z + (-y, x)` with :math:`g(r) = \tfrac{a}{16} (r^2 - 1)(16 r^2 - 9)`. For
    :math:`3/4 < r < 1`, :math:`\langle F, z \rangle = r^2 g(r) < 0`, so the MVI fails at 0, the
    only stationary point. There are no losses; they are reported as NaN.

    Args:
      a: strength of the radial part, ``> 0``.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are normal with deviation 0.5.

    Raises:
      ValueError: if ``a`` is not positive.

    Example:
      >>> from onesided_jax import games
      >>> games.polar().facts.mvi
      False

    References:
      Pethick et al., `Escaping limit cycles: Global convergence for constrained
      nonconvex-nonconcave minimax problems <https://arxiv.org/abs/2302.09831>`_, 2022.
    """
    require_number("a", a, "> 0", lambda value: value > 0)

    def field(players, state, batch):
        del batch
        x, y = players
        square = x**2 + y**2
        radial = a / 16 * (square - 1) * (16 * square - 9)
        nothing = jnp.full((), jnp.nan, x.dtype)
        return PrimalDual(radial * x - y, radial * y + x), GameInfo(
            PrimalDual(nothing, nothing), state
        )

    start = normal_start(1, 1, 0.5)
    # On the box |x|, |y| <= 1, r^2 <= 2: g + r g' is largest in its corners.
    g, r_slope = a / 16 * 23, a / 16 * 156
    facts = GameFacts(
        np.zeros(1), np.zeros(1), False, False, g + r_slope, 1 + r_slope / 2, g + r_slope + 1, 1.0
    )
    return Game(lambda key: (start(key), ()), lambda key: (), field, facts=facts)


def weak_minty(*, a: float = 0.2, b: float = 1.0) -> Game:
    r"""G10: a saddle that is concave in ``x`` and convex in ``y``; only a weak MVI holds.

    :math:`f(x, y) = -\tfrac a2 x^2 + b\,xy + \tfrac a2 y^2`, so
    :math:`\langle F, z \rangle = -a \|z\|^2 = -\tfrac\rho2 \|F\|^2` with
    :math:`\rho = 2a / (a^2 + b^2)`. At ``a = 0.2`` extragradient with
    :math:`\gamma = 1/(\sqrt2 L)` diverges; extragradient+ with :math:`\eta = (\gamma - \rho)/2`
    converges.

    Args:
      a: strength of the repulsion, ``> 0``.
      b: strength of the rotation, not 0.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are standard normal.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> round(games.weak_minty().facts.weak_mvi, 4)
      0.3846

    References:
      Diakonikolas, Daskalakis & Jordan, `Efficient Methods for Structured Nonconvex-Nonconcave
      Min-Max Optimization <https://arxiv.org/abs/2011.00364>`_, 2021.
    """
    require_number("a", a, "> 0", lambda value: value > 0)
    require_number("b", b, "other than 0", bool)
    facts = GameFacts(
        np.zeros(1),
        np.zeros(1),
        False,
        False,
        a,
        abs(b),
        math.hypot(a, b),
        weak_mvi=2 * a / (a**2 + b**2),
    )
    return deterministic(
        lambda x, y: a / 2 * (y[0] ** 2 - x[0] ** 2) + b * x[0] * y[0], normal_start(1, 1), facts
    )
