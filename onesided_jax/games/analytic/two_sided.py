"""G1 to G10: games with a two-sided solution, and games where methods that need one fail."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.errors import check_integers
from onesided_jax.games.analytic._common import (
    deterministic,
    normal_start,
    require_number,
)
from onesided_jax.games.game import Game, GameFacts, GameInfo
from onesided_jax.players import PrimalDual

__all__ = [
    "bilinear",
    "dirac_gan",
    "dirac_non_saturating",
    "dirac_wgan",
    "forsaken",
    "logarithmic",
    "polar",
    "quadratic",
    "quartic",
    "weak_minty",
]


def bilinear(*, dim: int = 4) -> Game:
    r"""G1: ``x^T A y`` with singular values from 1 to 0.4; the MVI holds with equality.

    Simultaneous descent-ascent spirals out for every step size; extragradient converges. The
    one-sided MVI fails in half of the space.

    Args:
      dim: dimension of each player, ``>= 1``.

    Returns:
      A deterministic game, primal and dual ``f[dim]``; starts are standard normal.

    Raises:
      ValueError: if ``dim < 1``.

    Example:
      >>> from onesided_jax import games
      >>> game = games.bilinear(dim=2)
      >>> game.facts.mvi, game.facts.one_sided_mvi
      (True, False)
    """
    check_integers(dim=dim)
    # Orthogonal factors from a fixed seed, so that every run has the same matrix.
    left, right = (
        np.linalg.qr(normal)[0] for normal in np.random.default_rng(0).normal(size=(2, dim, dim))
    )
    matrix = left * np.linspace(1.0, 0.4, dim) @ right.T
    facts = GameFacts(
        np.zeros(dim), np.zeros(dim), False, True, 0.0, 1.0, 1.0, monotone=True, weak_mvi=0.0
    )
    return deterministic(
        lambda x, y: x @ jnp.asarray(matrix, x.dtype) @ y, normal_start(dim, dim), facts
    )


def quadratic() -> Game:
    r"""G2: a strongly monotone quadratic.

    :math:`f(x, y) = \tfrac12 x^\top P x + x^\top A y - \tfrac12 y^\top Q y` with
    :math:`P = \mathrm{diag}(1, .5, .25)`, :math:`Q = \mathrm{diag}(.5, 1, .75)` and
    :math:`\|A\|_2 = 1`. Every method here converges to 0 at a small enough rate. The one-sided MVI
    fails, because a large ``y`` reverses the primal gradient.

    Returns:
      A deterministic game, primal and dual ``f[3]``; starts are standard normal.

    Example:
      >>> from onesided_jax import games
      >>> games.quadratic().facts.monotone
      True
    """
    P, Q = np.array([1.0, 0.5, 0.25]), np.array([0.5, 1.0, 0.75])
    A = np.random.default_rng(1).normal(size=(3, 3))
    A /= np.linalg.norm(A, 2)

    def objective(x, y):
        curved = jnp.sum(jnp.asarray(P, x.dtype) * x * x) - jnp.sum(jnp.asarray(Q, y.dtype) * y * y)
        return 0.5 * curved + x @ jnp.asarray(A, x.dtype) @ y

    facts = GameFacts(
        np.zeros(3), np.zeros(3), False, True, 1.0, 1.0, 2.0, monotone=True, weak_mvi=0.0
    )
    return deterministic(objective, normal_start(3, 3), facts)


def quartic() -> Game:
    r"""G3: ``x^4/4 + x y - y^4/4``; monotone, but flat at the solution.

    :math:`\langle F, z \rangle = x^4 + y^4`, so convergence is slower than any geometric rate.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are normal with deviation 0.5.

    Example:
      >>> from onesided_jax import games
      >>> games.quartic().facts.box
      1.5
    """
    box = 1.5
    facts = GameFacts(
        np.zeros(1),
        np.zeros(1),
        False,
        True,
        3 * box**2,
        1.0,
        3 * box**2 + 1,
        box,
        monotone=True,
        weak_mvi=0.0,
    )
    return deterministic(
        lambda x, y: (x[0] ** 4 - y[0] ** 4) / 4 + x[0] * y[0], normal_start(1, 1, 0.5), facts
    )


def dirac_wgan() -> Game:
    """G4: ``x y``, the Dirac-WGAN: a generator and a critic with one parameter each.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are standard normal.

    Example:
      >>> from onesided_jax import games
      >>> games.dirac_wgan().facts.lipschitz
      1.0

    References:
      Mescheder, Geiger & Nowozin, `Which Training Methods for GANs do actually Converge?
      <https://arxiv.org/abs/1801.04406>`_, 2018.
    """
    facts = GameFacts(
        np.zeros(1), np.zeros(1), False, True, 0.0, 1.0, 1.0, monotone=True, weak_mvi=0.0
    )
    return deterministic(lambda x, y: x[0] * y[0], normal_start(1, 1), facts)


_SLOPE_OF_T_SIGMOID = 1.1  # max over t of |sigmoid(t) + t sigmoid'(t)|, at t = 2.4: 1.0998


def dirac_gan() -> Game:
    r"""G5: the Dirac-GAN with the vanilla loss, ``-log(1 + exp(-x y))``.

    :math:`\langle F, z \rangle = 0`: the MVI holds with equality, but the game is not monotone. The
    Lipschitz constant on the box was estimated by sampling (1.40) and rounded up, not derived.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are normal with deviation 0.7.

    Example:
      >>> from onesided_jax import games
      >>> games.dirac_gan().facts.mvi, games.dirac_gan().facts.monotone
      (True, False)

    References:
      Mescheder, Geiger & Nowozin, `Which Training Methods for GANs do actually Converge?
      <https://arxiv.org/abs/1801.04406>`_, 2018.
    """
    facts = GameFacts(
        np.zeros(1), np.zeros(1), False, True, 1.0, _SLOPE_OF_T_SIGMOID, 1.6, 2.0, weak_mvi=0.0
    )
    return deterministic(
        lambda x, y: jax.nn.log_sigmoid(x[0] * y[0]), normal_start(1, 1, 0.7), facts
    )


def dirac_non_saturating(*, r1: float = 0.0) -> Game:
    r"""G6: the Dirac-GAN with the non-saturating loss; not zero-sum.

    :math:`F = (y\,\sigma(xy),\ -x\,\sigma(-xy) + \gamma y)` with
    :math:`\langle F, z \rangle = s \tanh(s/2) + \gamma y^2 \ge 0`, :math:`s = xy`.

    Args:
      r1: weight :math:`\gamma \ge 0` of the dual's R1 penalty :math:`\tfrac\gamma2 y^2`.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are normal with deviation 0.7.

    Raises:
      ValueError: if ``r1`` is negative or not finite.

    Example:
      >>> from onesided_jax import games
      >>> games.dirac_non_saturating(r1=0.1).facts.mvi
      True

    References:
      Mescheder, Geiger & Nowozin, `Which Training Methods for GANs do actually Converge?
      <https://arxiv.org/abs/1801.04406>`_, 2018.
    """
    require_number("r1", r1, ">= 0", lambda value: value >= 0)

    def field(players, state, batch):
        del batch
        x, y = players
        s = x * y
        F = PrimalDual(y * jax.nn.sigmoid(s), -x * jax.nn.sigmoid(-s) + r1 * y)
        penalty = 0.5 * r1 * y[0] ** 2
        losses = PrimalDual(jax.nn.softplus(s[0]), jax.nn.softplus(-s[0]) + penalty)
        return F, GameInfo(losses, state)

    start = normal_start(1, 1, 0.7)
    facts = GameFacts(
        np.zeros(1),
        np.zeros(1),
        False,
        True,
        1.0,
        _SLOPE_OF_T_SIGMOID,
        1.0 + _SLOPE_OF_T_SIGMOID + r1,
        2.0,
        weak_mvi=0.0,
    )
    return Game(lambda key: (start(key), ()), lambda key: (), field, facts=facts)


def logarithmic(*, coupling: float = 1.0) -> Game:
    r"""G7: ``log(1 + x^2) - log(1 + y^2) + c x y``; the MVI without monotonicity.

    The coupling cancels in :math:`\langle F, z \rangle`, and :math:`\log(1 + x^2)` is concave for
    :math:`|x| > 1`.

    Args:
      coupling: ``c``, not 0.

    Returns:
      A deterministic game, primal and dual ``f[1]``; starts are standard normal.

    Raises:
      ValueError: if ``coupling`` is 0 or not finite.

    Example:
      >>> from onesided_jax import games
      >>> games.logarithmic().facts.lipschitz
      3.0
    """
    require_number("coupling", coupling, "other than 0", bool)
    facts = GameFacts(
        np.zeros(1),
        np.zeros(1),
        False,
        True,
        2.0,
        abs(coupling),
        2.0 + abs(coupling),
        weak_mvi=0.0,
    )
    return deterministic(
        lambda x, y: jnp.log1p(x[0] ** 2) - jnp.log1p(y[0] ** 2) + coupling * x[0] * y[0],
        normal_start(1, 1),
        facts,
    )


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
