"""Angles of a game's field: with a line of players, and with the direction from a solution.

A bump in the path angle shows rotation. A negative alignment shows that the MVI fails at a point.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from onesided_jax.errors import check_integers
from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual
from onesided_jax.theory.points import as_players, batch_for, check_match, unit

__all__ = ["Alignment", "PathAngle", "alignment", "path_angle"]

_CHUNK = 16  # points that are evaluated at once


class PathAngle(NamedTuple):
    """The field along a line of ``P`` points.

    Attributes:
      alphas: ``float[P]``, positions on the line: 0 is the start, 1 the end.
      cosine: ``float[P]`` in [-1, 1], between the field and ``start - end``; 0 where the field
        is 0.
      norm: ``float[P]``, norm of the field.
    """

    alphas: jax.Array
    cosine: jax.Array
    norm: jax.Array


class Alignment(NamedTuple):
    """Cosines between the field and the direction from a solution; NaN for an unknown solution.

    Attributes:
      both: ``float[*axes]`` in [-1, 1], between ``z - z*`` and ``F``; ``>= 0`` under the MVI.
      primal: between ``x - x*`` and ``F.primal``; ``>= 0`` under the one-sided MVI.
      dual: between ``y - y*`` and ``F.dual``.
    """

    both: jax.Array
    primal: jax.Array
    dual: jax.Array


def path_angle(
    game: Game,
    start: PrimalDual,
    end: PrimalDual,
    *,
    state: ArrayTree = (),
    batch: ArrayTree = None,
    points: int = 41,
    span: Sequence[float] = (-0.25, 1.25),
) -> PathAngle:
    r"""The angle between the field and a line through two points: attraction or rotation?

    With :math:`w_\alpha = (1 - \alpha)\, w_{start} + \alpha\, w_{end}` it is

    .. math:: c(\alpha) = \frac{\langle w_{start} - w_{end}, F(w_\alpha) \rangle}
      {\|w_{start} - w_{end}\|\, \|F(w_\alpha)\|}

    with the sign of Berard et al.'s code. ``F`` points uphill, so :math:`c > 0` where a descent
    step moves from start towards end. Let ``end`` be near a stationary point, with :math:`s` the
    distance along the line and :math:`d` the distance of the point from the line. Then

    * attraction is a sign switch at :math:`\alpha = 1` from + to -, :math:`s / \sqrt{s^2 + d^2}`;
      repulsion switches from - to +;
    * rotation is a bump at :math:`\alpha = 1` of either sign, :math:`\pm d / \sqrt{s^2 + d^2}`,
      and 0 everywhere if the line meets the point;
    * both together are a switch with a bump.

    Args:
      game: the game.
      start: point at :math:`\alpha = 0`, such as the players before training.
      end: point at :math:`\alpha = 1`, such as the players after training.
      state: the game's state, from ``game.init``; one for all points.
      batch: minibatch for ``F`` at all points; ``None`` takes ``game.batch(jax.random.key(0))``.
      points: number ``P`` of positions, ``>= 2``.
      span: first and last :math:`\alpha`, in increasing order. The default positions leave out 1,
        because at a solution the angle is rounding error.

    Returns:
      The :class:`PathAngle`.

    Raises:
      ValueError: if start and end are equal or differ in shape; for ``points`` or ``span`` out of
        range; for players, state or batch that do not fit the game.

    Example:
      >>> import jax
      >>> from onesided_jax import PrimalDual, games
      >>> from onesided_jax.theory import path_angle
      >>> game = games.quadratic()
      >>> players, _ = game.init(jax.random.key(0))
      >>> solution = PrimalDual(game.facts.primal_solution, game.facts.dual_solution)
      >>> alphas, cosine, norm = path_angle(game, players, solution)
      >>> ((cosine > 0) == (alphas < 1)).all().item()
      True

    References:
      Berard, Gidel, Almahairi, Vincent & Lacoste-Julien, `A Closer Look at the Optimization
      Landscapes of Generative Adversarial Networks <https://arxiv.org/abs/1906.04848>`_, 2020.
    """
    check_integers(2, points=points)
    if not (len(span) == 2 and -math.inf < span[0] < span[1] < math.inf):
        raise ValueError(f"span={span!r}: expected two finite numbers in increasing order")
    start = as_players("start", start)
    end = as_players("end", end)
    check_match("end", end, "start", start)
    if jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), start, end)):
        raise ValueError("start and end are equal: expected two different points")
    batch = batch_for(game, start, state, batch)
    return _path(game.field, points, start, end, tuple(span), state, batch)


def alignment(
    game: Game,
    players: PrimalDual,
    solution: PrimalDual | None = None,
    *,
    state: ArrayTree = (),
    batch: ArrayTree = None,
    axes: int = 0,
) -> Alignment:
    r"""Cosine between the field and the direction from the solution: a scale-free test of the MVI.

    .. math:: \frac{\langle z - z^*, F(z) \rangle}{\|z - z^*\|\, \|F(z)\|}, \qquad
      \frac{\langle x - x^*, F_x(z) \rangle}{\|x - x^*\|\, \|F_x(z)\|}, \qquad
      \frac{\langle y - y^*, F_y(z) \rangle}{\|y - y^*\|\, \|F_y(z)\|}

    At 1 a descent step goes straight to the solution; at 0 it circles the solution. At a negative
    value the condition fails at this point.

    Args:
      game: the game.
      players: the points, leaves ``float[*axes, ...]``.
      solution: ``PrimalDual(x*, y*)``, either may be ``None``; ``None`` takes that of
        ``game.facts``.
      state: the game's state, from ``game.init``; one for all points.
      batch: minibatch for ``F`` at all points; ``None`` takes ``game.batch(jax.random.key(0))``.
      axes: number of leading axes of the players, such as run and time.

    Returns:
      The :class:`Alignment`. A cosine is 0 where the field is 0 or a player equals its solution.

    Raises:
      ValueError: if no solution is known, or its shapes differ from the players'; for ``axes`` out
        of range; for players, state or batch that do not fit the game.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> from onesided_jax.theory import alignment
      >>> game = games.wind_log()
      >>> players, _ = jax.vmap(game.init)(jax.random.split(jax.random.key(0), 3))
      >>> both, primal, dual = alignment(game, players, axes=1)
      >>> bool((primal > 0.5).all()), dual.tolist()  # the game has x* but no y*
      (True, [nan, nan, nan])

    References:
      This project (docs/theory).
    """
    players = as_players("players", players)
    leaves = jax.tree.leaves(players)
    check_integers(0, min(leaf.ndim for leaf in leaves), axes=axes)
    if len({leaf.shape[:axes] for leaf in leaves}) > 1:
        leads = sorted({leaf.shape[:axes] for leaf in leaves})
        raise ValueError(f"axes={axes}: expected the same leading axes of all players, got {leads}")
    point = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[axes:], a.dtype), players)
    if solution is None:
        facts = game.facts
        solution = PrimalDual(facts and facts.primal_solution, facts and facts.dual_solution)
    solution = as_players("solution", solution)
    for name, part, here in zip(PrimalDual._fields, solution, point):
        if part is not None:
            check_match(f"solution.{name}", part, f"players.{name}", here)
    if all(part is None for part in solution):
        raise ValueError(
            "the game has no x* and no y*: pass solution=PrimalDual(x_star, None), for example "
            "the primal player at the end of another, longer run"
        )
    batch = batch_for(game, point, state, batch)
    return _align(game.field, axes, players, solution, state, batch)


@functools.partial(jax.jit, static_argnames=("field", "points"))
def _path(field, points, start, end, span, state, batch):
    first, unravel = ravel_pytree(start)
    last = ravel_pytree(end)[0].astype(first.dtype)
    direction, _ = unit(first - last)
    alphas = jnp.linspace(span[0], span[1], points, dtype=first.dtype)

    def place(alpha):
        F, _ = field(unravel((1 - alpha) * first + alpha * last), state, batch)
        uphill, norm = unit(ravel_pytree(F)[0])
        return _cosine(direction, uphill), norm

    return PathAngle(alphas, *jax.lax.map(place, alphas, batch_size=_CHUNK))


@functools.partial(jax.jit, static_argnames=("field", "axes"))
def _align(field, axes, players, solution, state, batch):
    lead = jax.tree.leaves(players)[0].shape[:axes]

    def point(z):
        F, _ = field(z, state, batch)

        def cosine(z, solution, F):
            if solution is None:
                return jnp.full((), jnp.nan, ravel_pytree(F)[0].dtype)
            away = jax.tree.map(lambda a, s: a - s.astype(a.dtype), z, solution)
            away, _ = ravel_pytree(away)
            return _cosine(unit(away)[0], unit(ravel_pytree(F)[0])[0])

        known = all(part is not None for part in solution)
        return Alignment(cosine(z, solution if known else None, F), *map(cosine, z, solution, F))

    flat = jax.tree.map(lambda a: a.reshape(math.prod(lead), *a.shape[axes:]), players)
    cosines = jax.lax.map(point, flat, batch_size=_CHUNK)
    return jax.tree.map(lambda c: c.reshape(lead), cosines)


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.clip(jnp.sum(a * b), -1, 1)
