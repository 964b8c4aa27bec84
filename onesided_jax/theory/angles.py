"""Angles of a game's field: along a line of players, and to the way from a solution.

A bump in the path-angle means rotation, a negative alignment that the MVI fails at that point.
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

_CHUNK = 16  # points of a line or run that are evaluated at once


class PathAngle(NamedTuple):
    """The field along a line of ``P`` points.

    Attributes:
      alphas: ``float[P]``, the places on the line: 0 is its start, 1 its end.
      cosine: ``float[P]`` in [-1, 1], of the field and ``start - end``; 0 where the field is 0.
      norm: ``float[P]``, of the field.
    """

    alphas: jax.Array
    cosine: jax.Array
    norm: jax.Array


class Alignment(NamedTuple):
    """Cosines of the field and the way from a solution; NaN where the solution is not known.

    Attributes:
      both: ``float[*axes]`` in [-1, 1], of ``z - z*`` and ``F``; the MVI says that it is ``>= 0``.
      primal: of ``x - x*`` and ``F.primal``; so does the one-sided MVI of this one.
      dual: of ``y - y*`` and ``F.dual``.
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

    with the sign of Berard et al.'s code: ``F`` is the descent form, which points uphill, so that
    :math:`c > 0` where a descent step leads on from start to end. If ``end`` is near a stationary
    point, at a distance :math:`d` from the line and :math:`s` further along it,

    * attraction is a sign switch at :math:`\alpha = 1` from + to -, :math:`s / \sqrt{s^2 + d^2}`;
      repulsion switches from - to +;
    * rotation is a bump at :math:`\alpha = 1` of either sign, :math:`\pm d / \sqrt{s^2 + d^2}`,
      and 0 all along if the line meets the point;
    * both at once are a switch with a bump.

    Args:
      game: the game.
      start: where the line has :math:`\alpha = 0`, such as the players before training.
      end: where it has :math:`\alpha = 1`, such as those after.
      state: the game's, from ``game.init``; one for all points.
      batch: the minibatch on which ``F`` is taken at all points; ``None`` for
        ``game.batch(jax.random.key(0))``.
      points: number ``P`` of places, ``>= 2``.
      span: first and last :math:`\alpha`, in increasing order. The default places leave 1 itself
        out: at a solution the angle is one of rounding errors.

    Returns:
      The :class:`PathAngle`. The cosine of a field that is 0 is 0.

    Raises:
      ValueError: if start and end differ in shape or not at all, for points or a span out of
        range, or players, state and batch that are not the game's.

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
        raise ValueError("start and end are equal: expected two points, there is no line")
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
    r"""Cosine of the field and the way from the solution: the MVI at these players, without scale.

    .. math:: \frac{\langle z - z^*, F(z) \rangle}{\|z - z^*\|\, \|F(z)\|}, \qquad
      \frac{\langle x - x^*, F_x(z) \rangle}{\|x - x^*\|\, \|F_x(z)\|}, \qquad
      \frac{\langle y - y^*, F_y(z) \rangle}{\|y - y^*\|\, \|F_y(z)\|}

    1 means that a descent step goes straight to the solution, 0 that it turns around it, and a
    negative number that the condition fails here.

    Args:
      game: the game.
      players: the points, leaves ``float[*axes, ...]``.
      solution: ``PrimalDual(x*, y*)``, either may be ``None``; ``None`` for that of ``game.facts``.
      state: the game's, from ``game.init``; one for all points.
      batch: the minibatch on which ``F`` is taken at all points; ``None`` for
        ``game.batch(jax.random.key(0))``.
      axes: number of leading axes of the players, such as run and time.

    Returns:
      The :class:`Alignment`. A cosine is 0 where the field is 0 or the player at its solution.

    Raises:
      ValueError: if no solution is known, for a solution of other shapes than the players, axes
        out of range, or players, state and batch that are not the game's.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> from onesided_jax.theory import alignment
      >>> game = games.wind_log()
      >>> players, _ = jax.vmap(game.init)(jax.random.split(jax.random.key(0), 3))
      >>> both, primal, dual = alignment(game, players, axes=1)
      >>> bool((primal > 0.5).all()), dual.tolist()  # x* for any dual, no y*
      (True, [nan, nan, nan])

    References:
      This project (docs/theory).
    """
    players = as_players("players", players)
    leaves = jax.tree.leaves(players)
    check_integers(0, min(leaf.ndim for leaf in leaves), axes=axes)
    if len({leaf.shape[:axes] for leaf in leaves}) > 1:
        found = sorted({leaf.shape[:axes] for leaf in leaves})
        raise ValueError(f"axes={axes}: expected the same leading axes of all players, got {found}")
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
    found = jax.lax.map(point, flat, batch_size=_CHUNK)
    return jax.tree.map(lambda c: c.reshape(lead), found)


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.clip(jnp.sum(a * b), -1, 1)
