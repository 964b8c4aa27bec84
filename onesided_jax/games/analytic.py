"""Small games whose answer is known, to see what an optimizer does and to test the tests."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.games.game import Game, GameFacts, zero_sum_field
from onesided_jax.players import PrimalDual

__all__ = ["GAMES", "bilinear", "carousel", "make_game", "moving_target", "stick_slip"]


def carousel(*, c: float = 1.25, omega: float = 3.0, mu: float = 0.5, radius: float = 2.0) -> Game:
    r"""O1: the one-sided game that separates algorithms; the dual turns for ever.

    .. math::
      f(x, y) = \rho(s)\,(c + \cos(2\theta - y)) + \omega y + \tfrac{\mu}{2}(r - R)_+^2,
      \quad x = r\,(\cos\theta, \sin\theta),\ s = r^2

    with :math:`\rho(s) = 2s - s^2` for :math:`s \le 1` and 1 beyond. The one-sided MVI holds at
    ``x* = 0``, with equality on the ring :math:`1 \le r \le R`, where plain descent is carried
    outwards for every step size. :math:`|\nabla_y f| \ge \omega - 1` everywhere: no ``y*``, no MVI.
    The phase ``y`` grows without end: train long runs in float64.

    Args:
      c: offset, ``> 1``.
      omega: the wind that drives the dual, ``> 1``.
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
        _require_number(name, value, "> 1", lambda value: value > 1)
    _require_number("mu", mu, ">= 0", lambda value: value >= 0)

    def objective(x, y):
        # Polynomial form of the formula above: smooth at x = 0, no arctan.
        s = jnp.sum(x * x)
        s_safe = jnp.where(s > 1, s, 1.0)
        w = jnp.where(s > 1, 1 / s_safe, 2 - s)  # rho(s) = s w(s)
        cos_y, sin_y = jnp.cos(y[0]), jnp.sin(y[0])
        quadratic = (x[0] ** 2 - x[1] ** 2) * cos_y + 2 * x[0] * x[1] * sin_y
        r_safe = jnp.sqrt(jnp.where(s > radius**2, s, radius**2))
        return w * (c * s + quadratic) + omega * y[0] + mu / 2 * (r_safe - radius) ** 2

    def start(key):
        angle, phase = jax.random.uniform(key, (2,))
        angle = 2 * math.pi * angle
        return PrimalDual(1.7 * jnp.array([jnp.cos(angle), jnp.sin(angle)]), 3.0 * phase[None])

    return _deterministic(
        objective,
        start,
        GameFacts(
            primal_solution=np.zeros(2),
            dual_solution=None,
            one_sided_mvi=True,
            mvi=False,
            # The hub's radial curvature where it meets the ring, and the wall's beyond the ring.
            lipschitz_xx=max(8 * (c + 1), mu + 4 / radius**2),
            lipschitz_xy=2.18,
        ),
    )


def bilinear(*, dim: int = 4) -> Game:
    r"""G1: :math:`f(x, y) = x^\top A y`, singular values from 1 to 0.4; MVI with equality.

    Simultaneous descent-ascent spirals out for every step size; extragradient converges. The
    one-sided MVI fails on half of the space.

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
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ValueError(f"dim={dim!r}: expected an integer >= 1")
    # Orthogonal factors from a fixed seed: the same matrix for every run of a sweep.
    left, right = (
        np.linalg.qr(normal)[0] for normal in np.random.default_rng(0).normal(size=(2, dim, dim))
    )
    matrix = left * np.linspace(1.0, 0.4, dim) @ right.T

    def start(key):
        return PrimalDual(*jax.random.normal(key, (2, dim)))

    return _deterministic(
        lambda x, y: x @ jnp.asarray(matrix, x.dtype) @ y,
        start,
        GameFacts(
            primal_solution=np.zeros(dim),
            dual_solution=np.zeros(dim),
            one_sided_mvi=False,
            mvi=True,
            lipschitz_xx=0.0,
            lipschitz_xy=1.0,
        ),
    )


def moving_target(*, omega: float = 2.0) -> Game:
    r"""N2: :math:`f(x, y) = \tfrac12\|x - e(y)\|^2 + \omega y`, :math:`e(y) = (\cos y, \sin y)`.

    A negative control: no ``x*`` satisfies the one-sided MVI, yet under dual rate decay the
    primal gradient falls, because the target slows down.

    Args:
      omega: the wind that drives the dual.

    Returns:
      A deterministic game, primal ``f[2]``, dual ``f[1]``; starts standard normal.

    Raises:
      ValueError: if ``omega`` is not a finite number.

    Example:
      >>> from onesided_jax import games
      >>> games.moving_target().facts.one_sided_mvi
      False
    """
    _require_number("omega", omega)

    def objective(x, y):
        target = jnp.stack([jnp.cos(y[0]), jnp.sin(y[0])])
        return 0.5 * jnp.sum((x - target) ** 2) + omega * y[0]

    return _deterministic(objective, _normal_start(2, 1), _no_solution(1.0, 1.0))


def stick_slip(
    *, kappa: float = 4.0, amplitude: float = 1.0, k: float = 4.0, omega: float = 2.0
) -> Game:
    r"""N1: :math:`f(x, y) = \tfrac\kappa2 x^2 + A\cos(kx - y) + \omega y`.

    A negative control: for ``|x| < |A k / kappa|`` the sign of the primal gradient flips with
    ``y``, so no ``x*`` satisfies the one-sided MVI.

    Args:
      kappa: curvature of the well.
      amplitude: ``A``, height of the travelling wave, not 0.
      k: its wave number, not 0.
      omega: the wind that drives the dual.

    Returns:
      A deterministic game, primal ``f[1]``, dual ``f[1]``; starts standard normal.

    Raises:
      ValueError: for a parameter that is not a finite number, or 0 where it must not be.

    Example:
      >>> from onesided_jax import games
      >>> games.stick_slip().facts.lipschitz_xx
      20.0
    """
    _require_number("kappa", kappa)
    _require_number("amplitude", amplitude, "other than 0", bool)
    _require_number("k", k, "other than 0", bool)
    _require_number("omega", omega)

    def objective(x, y):
        wave = amplitude * jnp.cos(k * x[0] - y[0])
        return 0.5 * kappa * x[0] ** 2 + wave + omega * y[0]

    facts = _no_solution(abs(kappa) + abs(amplitude) * k**2, abs(amplitude * k))
    return _deterministic(objective, _normal_start(1, 1), facts)


GAMES: dict[str, Callable[..., Game]] = {
    "bilinear": bilinear,
    "carousel": carousel,
    "moving_target": moving_target,
    "stick_slip": stick_slip,
}
"""Analytic games by name: ``factory(**parameters)``."""


def make_game(name: str, **parameters: Any) -> Game:
    """Builds an analytic game by name, for recipes and the command line.

    Args:
      name: a key of ``GAMES``.
      **parameters: its keyword arguments.

    Returns:
      The game.

    Raises:
      ValueError: for an unknown name or parameter, naming the nearest valid choice.

    Example:
      >>> from onesided_jax import games
      >>> games.make_game("bilinear", dim=3).facts.mvi
      True
    """
    if name not in GAMES:
        raise ValueError(f"game={name!r}: expected one of {sorted(GAMES)}{_near(name, GAMES)}")
    known = list(inspect.signature(GAMES[name]).parameters)
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(
                f"{parameter!r} is no parameter of game {name!r}: expected one of "
                f"{known}{_near(parameter, known)}"
            )
    return GAMES[name](**parameters)


def _near(word: str, choices) -> str:
    near = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _require_number(
    name: str,
    value: Any,
    expected: str = "",
    holds: Callable[[Any], bool] = lambda value: True,
) -> None:
    """Raises ``ValueError`` unless ``value`` is a finite number of which ``holds`` is true."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and holds(value)):
        raise ValueError(f"{name}={value!r}: expected a finite number {expected}".rstrip())


def _deterministic(objective, start, facts: GameFacts) -> Game:
    return Game(
        init=lambda key: (start(key), ()),
        sample=lambda key: (),
        field=zero_sum_field(objective),
        facts=facts,
    )


def _normal_start(primal_dim: int, dual_dim: int):
    def start(key):
        z = jax.random.normal(key, (primal_dim + dual_dim,))
        return PrimalDual(z[:primal_dim], z[primal_dim:])

    return start


def _no_solution(lipschitz_xx: float, lipschitz_xy: float) -> GameFacts:
    return GameFacts(None, None, False, False, lipschitz_xx, lipschitz_xy)
