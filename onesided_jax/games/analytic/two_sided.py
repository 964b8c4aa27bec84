"""G1 to G7: games with a two-sided solution."""

from __future__ import annotations

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
    "logarithmic",
    "quadratic",
    "quartic",
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
