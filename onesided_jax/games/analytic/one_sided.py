"""O1 to O6: the one-sided MVI holds, but the dual never rests and no two-sided solution exists."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.errors import check_integers
from onesided_jax.games.analytic._common import (
    deterministic,
    joint_lipschitz,
    normal_start,
    require_number,
)
from onesided_jax.games.game import Game, GameFacts
from onesided_jax.players import PrimalDual

__all__ = ["carousel", "multi_carousel", "ridge_star", "strong_wind", "wind_log"]


def carousel(*, c: float = 1.25, omega: float = 3.0, mu: float = 0.5, radius: float = 2.0) -> Game:
    r"""O1: a one-sided game that separates algorithms; the dual rotates forever.

    .. math::
      f(x, y) = \rho(s)\,(c + \cos(2\theta - y)) + \omega y + \tfrac{\mu}{2}(r - R)_+^2,
      \quad x = r\,(\cos\theta, \sin\theta),\ s = r^2

    with :math:`\rho(s) = 2s - s^2` for :math:`s \le 1` and 1 beyond. The one-sided MVI holds at
    ``x* = 0``, with equality on the ring :math:`1 \le r \le R`. There plain descent moves outwards
    for every step size. :math:`|\nabla_y f| \ge \omega - 1` everywhere, so there is no ``y*`` and
    no MVI. The phase ``y`` grows without bound, so train long runs in float64.

    Args:
      c: offset, ``> 1``.
      omega: linear term ("wind") that drives the dual, ``> 1``.
      mu: stiffness of the wall beyond ``radius``, ``>= 0``.
      radius: outer radius ``R > 1`` of the ring.

    Returns:
      A deterministic game, primal ``f[2]``, dual ``f[1]``; starts are drawn at ``r = 1.7``.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> game = games.carousel()
      >>> players, state = game.init(jax.random.key(0))
      >>> F, info = game.field(players, state, game.sample(jax.random.key(1)))
      >>> bool(abs(F.dual[0]) >= 2.0)  # the dual never rests
      True

    References:
      This project (docs/theory).
    """
    for name, value in (("c", c), ("omega", omega), ("radius", radius)):
        require_number(name, value, "> 1", lambda value: value > 1)
    require_number("mu", mu, ">= 0", lambda value: value >= 0)

    xx = max(8 * (c + 1), mu + 4 / radius**2)  # inside the hub at the ring, and at the wall

    def start(key):
        angle, phase = jax.random.uniform(key, (2,))
        angle = 2 * math.pi * angle
        return PrimalDual(1.7 * jnp.array([jnp.cos(angle), jnp.sin(angle)]), 3.0 * phase[None])

    facts = _one_sided(np.zeros(2), xx, _CAROUSEL_XY, joint_lipschitz(xx, _CAROUSEL_XY, 1.0))
    return deterministic(
        lambda x, y: _carousel(x, y[0], c, mu, radius) + omega * y[0], start, facts
    )


_CAROUSEL_XY = 2.18  # ||grad_xy f|| of the carousel, attained inside the hub


def _carousel(x, y, c, mu, radius):
    """The carousel without the wind, in polynomial form, which is smooth at x = 0."""
    s = jnp.sum(x * x)
    s_safe = jnp.where(s > 1, s, 1.0)
    w = jnp.where(s > 1, 1 / s_safe, 2 - s)  # rho(s) = s w(s)
    turned = (x[0] ** 2 - x[1] ** 2) * jnp.cos(y) + 2 * x[0] * x[1] * jnp.sin(y)
    r_safe = jnp.sqrt(jnp.where(s > radius**2, s, radius**2))
    return w * (c * s + turned) + mu / 2 * (r_safe - radius) ** 2


def _one_sided(solution, xx, xy, joint=None, box: Any = math.inf, **constants) -> GameFacts:
    """Facts of a game with ``x*`` and no ``y*``."""
    return GameFacts(solution, None, True, False, xx, xy, joint, box, **constants)


def wind_log(*, dim: int = 10, omega: float = 2.0) -> Game:
    r"""O2: logarithmic wells whose depth the dual sets; one-sided and star-cocoercive.

    :math:`f(x, y) = (1.5 + \sin y) \sum_i \log(1 + x_i^2) + \omega y`. The one-sided MVI holds
    at 0, and even star-cocoercivity, so plain AMSGrad converges too. As ``x`` goes to 0 the dual's
    gradient goes to :math:`\omega`, so there is no ``y*``.

    Args:
      dim: dimension of ``x``, ``>= 1``.
      omega: linear term that drives the dual, ``> 0``.

    Returns:
      A deterministic game, primal ``f[dim]``, dual ``f[1]``; starts are standard normal.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> games.wind_log().facts.star_cocoercivity
      0.2

    References:
      This project (docs/theory).
    """
    check_integers(dim=dim)
    require_number("omega", omega, "> 0", lambda value: value > 0)
    return deterministic(
        lambda x, y: (1.5 + jnp.sin(y[0])) * jnp.sum(jnp.log1p(x * x)) + omega * y[0],
        normal_start(dim, 1),
        _one_sided(np.zeros(dim), 5.0, math.sqrt(dim), star_cocoercivity=0.2),
    )


def ridge_star(*, dim: int = 50, dual_dim: int = 10, terms: int = 200, omega: float = 1.0) -> Game:
    r"""O3: ridge functions around a common star centre, weighted by the dual.

    .. math::
      f(x, y) = \tfrac1K \sum_{j \le K} (1 + \tfrac12 \sin v_j^\top y)\,
      \psi(u_j^\top (x - x^*)) + \tfrac\omega m 1^\top y, \qquad \psi(s) = \tfrac{s^2}{1 + s^2}

    Every term has :math:`\psi'(s) s \ge 0`, so the one-sided MVI holds at :math:`x^*`. The matrices
    come from a fixed seed.

    Args:
      dim: dimension of ``x``, ``>= 1``.
      dual_dim: dimension of ``y``, ``>= 1``.
      terms: number ``K`` of ridge functions, ``>= 1``.
      omega: linear term that drives the dual, ``> 0``.

    Returns:
      A deterministic game, primal ``f[dim]``, dual ``f[dual_dim]``; starts are standard normal.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> games.ridge_star(dim=5, dual_dim=2, terms=20).facts.primal_solution.shape
      (5,)

    References:
      This project (docs/theory).
    """
    check_integers(dim=dim, dual_dim=dual_dim, terms=terms)
    require_number("omega", omega, "> 0", lambda value: value > 0)
    rng = np.random.default_rng(2)
    U = rng.normal(size=(terms, dim)) / math.sqrt(dim)
    V = rng.normal(size=(terms, dual_dim))
    solution = 0.5 * rng.normal(size=dim)
    norm_u, norm_v = float(np.linalg.norm(U, 2)), float(np.linalg.norm(V, 2))

    def objective(x, y):
        s = jnp.asarray(U, x.dtype) @ (x - jnp.asarray(solution, x.dtype))
        weight = 1 + 0.5 * jnp.sin(jnp.asarray(V, y.dtype) @ y)
        return jnp.mean(weight * s * s / (1 + s * s)) + omega * jnp.mean(y)

    xx, xy = 3 * norm_u**2 / terms, 0.325 * norm_u * norm_v / terms
    facts = _one_sided(
        solution,
        xx,
        xy,
        joint_lipschitz(xx, xy, 0.5 * norm_v**2 / terms),
        star_cocoercivity=1 / xx,
    )
    return deterministic(objective, normal_start(dim, dual_dim), facts)


def multi_carousel(*, dim: int = 16, kappa: float = 0.2) -> Game:
    r"""O5: ``dim`` carousels with winds from 2.5 to 4 and phases coupled in a ring.

    .. math::
      f(x, y) = \sum_j \mathrm{carousel}(x_j, y_j; \omega_j) + \kappa \sum_j \cos(y_j - y_{j+1})

    The coupling does not contain ``x``, so the one-sided MVI holds at 0 as for one carousel.
    :math:`|\nabla_{y_j} f| \ge \omega_j - 1 - 2 \kappa`, so the dual never rests.

    Args:
      dim: number of carousels, ``>= 2``.
      kappa: strength of the coupling, in ``[0, 0.5]``.

    Returns:
      A deterministic game, primal ``f[dim, 2]``, dual ``f[dim]``; starts at ``r = 1.7``.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> games.multi_carousel(dim=4).facts.primal_solution.shape
      (4, 2)

    References:
      This project (docs/theory).
    """
    check_integers(2, dim=dim)  # for one, use carousel()
    require_number("kappa", kappa, "in [0, 0.5]", lambda value: 0 <= value <= 0.5)
    winds = np.linspace(2.5, 4.0, dim)

    def objective(x, y):
        rides = jax.vmap(lambda x, y: _carousel(x, y, 1.25, 0.5, 2.0))(x, y)
        ring = kappa * jnp.sum(jnp.cos(y - jnp.roll(y, -1)))
        return jnp.sum(rides) + jnp.asarray(winds, y.dtype) @ y + ring

    def start(key):
        angle, phase = jax.random.uniform(key, (2, dim))
        angle = 2 * math.pi * angle
        return PrimalDual(1.7 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1), 3.0 * phase)

    joint = joint_lipschitz(18.0, _CAROUSEL_XY, 1.0 + 4 * kappa)
    facts = _one_sided(np.zeros((dim, 2)), 18.0, _CAROUSEL_XY, joint)
    return deterministic(objective, start, facts)


def strong_wind(*, dim: int = 20, omega: float = 2.0) -> Game:
    r"""O6: wells whose depth, but not sign, the dual sets; the strong one-sided MVI holds.

    .. math::
      f(x, y) = (1.5 + \sin y_0) \sum_i (x_i^2 + 3 \sin^2 x_i) + \omega (y_0 + y_1) + .3 \cos 3 y_1

    :math:`x (2x + 3 \sin 2x) \ge 0.69659\, x^2` (the minimum is at :math:`\tan 2x = 2x`), hence
    :math:`\mu = 0.34829`. The wells are still non-convex.

    Args:
      dim: dimension of ``x``, ``>= 1``.
      omega: linear term that drives the dual, ``> 0.9``.

    Returns:
      A deterministic game, primal ``f[dim]``, dual ``f[2]``; starts are standard normal.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> games.strong_wind().facts.strong_mvi
      0.34829

    References:
      This project (docs/theory).
    """
    check_integers(dim=dim)
    require_number("omega", omega, "> 0.9", lambda value: value > 0.9)

    def objective(x, y):
        wells = jnp.sum(x * x + 3 * jnp.sin(x) ** 2)
        return (1.5 + jnp.sin(y[0])) * wells + omega * (y[0] + y[1]) + 0.3 * jnp.cos(3 * y[1])

    box = 4.0  # of x: grad_xy grows with it
    facts = _one_sided(
        np.zeros(dim),
        20.0,
        math.sqrt(dim) * (2 * box + 3),
        box=PrimalDual(box, math.inf),
        star_cocoercivity=0.05,
        strong_mvi=0.34829,
    )
    return deterministic(objective, normal_start(dim, 2), facts)
