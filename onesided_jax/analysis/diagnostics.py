"""Diagnostics of a game at a point: the field's spectrum, its angle to a path and to a solution.

They say why a method stalls or circles where no theorem is at hand: eigenvalues off the real axis
and a bump in the path-angle mean rotation, a negative alignment that the MVI fails at that point.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from onesided_jax.games import Game
from onesided_jax.optimizers._checks import check_choice
from onesided_jax.players import ArrayTree, PrimalDual, PRNGKey, make_key

__all__ = ["Alignment", "PathAngle", "Spectrum", "alignment", "jacobian_spectrum", "path_angle"]

_DENSE = 512  # entries up to which "auto" forms the Jacobian
_KRYLOV = 64  # Arnoldi's default number of steps
_CHUNK = 16  # points of a line or run that are evaluated at once


class Spectrum(NamedTuple):
    """Eigenvalues of a field's Jacobian, NumPy arrays.

    Attributes:
      eigenvalues: ``complex[k]``, by magnitude, largest first; of a conjugate pair the upper one
        first. NaN where the Jacobian is not finite.
      residuals: ``float[k]``, ``||J v - lambda v||`` for the unit Ritz vector ``v`` of each, at
        least the rounding of the largest; 0 if dense. Some matrix this close to ``J`` has the
        eigenvalue exactly.
      method: "dense" or "arnoldi".
    """

    eigenvalues: np.ndarray
    residuals: np.ndarray
    method: str


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


def jacobian_spectrum(
    game: Game,
    players: PrimalDual,
    *,
    state: ArrayTree = (),
    batch: ArrayTree = None,
    key: PRNGKey | None = None,
    count: int | None = None,
    method: str = "auto",
    player: str = "both",
) -> Spectrum:
    r"""Eigenvalues of the Jacobian of the field ``F``, in descent form, at one point.

    Descent-ascent at rate :math:`\eta` is locally stable if :math:`|1 - \eta \lambda| < 1` for
    all eigenvalues: it needs :math:`\mathrm{Re}\,\lambda > 0` and small rates where the imaginary
    parts, the rotation, dominate. The largest eigenvalues come from the whole Jacobian of a small
    game, or from Arnoldi's method, which needs only its products with vectors (``jax.jvp``).
    Without restarts it finds the outer eigenvalues first; the residuals say which.

    Args:
      game: the game.
      players: the point.
      state: the game's, from ``game.init``.
      batch: the minibatch on which ``F`` is taken; ``None`` for ``game.sample(jax.random.key(0))``.
      key: draws Arnoldi's first vector; ``None`` for ``jax.random.key(0)``.
      count: number ``k`` of eigenvalues, from 1 to the ``n`` entries of the players. For Arnoldi
        also of its steps, which keep ``k + 1`` vectors like the players: ask for a few times as
        many as should converge. ``None``: all if dense, else ``min(n, 64)``.
      method: "dense", "arnoldi", or "auto", which is dense up to ``n = 512``.
      player: "both", or "primal" or "dual" for that player's diagonal block, the Hessian of its
        own loss.

    Returns:
      The :class:`Spectrum`, in the precision of the players.

    Raises:
      ValueError: for an unknown method or player, a count out of range, or players, state and
        batch that are not the game's.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> from onesided_jax.analysis import jacobian_spectrum
      >>> game = games.weak_minty(a=0.5, b=2.0)
      >>> players, _ = game.init(jax.random.key(0))
      >>> jacobian_spectrum(game, players).eigenvalues.round(3).tolist()
      [(-0.5+2j), (-0.5-2j)]

    References:
      Arnoldi, `The Principle of Minimized Iterations in the Solution of the Matrix Eigenvalue
      Problem <https://doi.org/10.1090/qam/42792>`_, 1951. Mescheder, Nowozin & Geiger, `The
      Numerics of GANs <https://arxiv.org/abs/1705.10461>`_, 2017.
    """
    check_choice("method", method, ("auto", "dense", "arnoldi"))
    check_choice("player", player, ("both", "primal", "dual"))
    players = _arrays("players", players)
    n = sum(leaf.size for leaf in jax.tree.leaves(_share(players, player)))
    if count is not None:
        _check_integer("count", count, 1, n)
    batch = _check_field(game, players, state, batch)

    if method == "auto":
        method = "dense" if n <= _DENSE else "arnoldi"
    if method == "dense":
        matrix = _jacobian(game.field, player, players, state, batch)
    else:
        steps = min(n, _KRYLOV) if count is None else count
        key = make_key(0) if key is None else key
        matrix = _arnoldi(game.field, player, steps, players, state, batch, key)
    values, residuals = _ritz(np.asarray(matrix, np.float64))
    dtype = jnp.promote_types(matrix.dtype, jnp.float32)
    if method == "arnoldi":  # the estimates go on falling where rounding does not
        residuals = np.maximum(residuals, jnp.finfo(dtype).eps * np.abs(values).max())
    order = np.lexsort((-np.imag(values), -np.real(values), -np.abs(values)))[:count]
    values = values[order].astype(jnp.promote_types(dtype, jnp.complex64))
    return Spectrum(values, residuals[order].astype(dtype), method)


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
        ``game.sample(jax.random.key(0))``.
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
      >>> from onesided_jax.analysis import path_angle
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
    _check_integer("points", points, 2)
    if not (len(span) == 2 and -math.inf < span[0] < span[1] < math.inf):
        raise ValueError(f"span={span!r}: expected two finite numbers in increasing order")
    start = _arrays("start", start)
    end = _arrays("end", end)
    _check_match("end", end, "start", start)
    if jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), start, end)):
        raise ValueError("start and end are equal: expected two points, there is no line")
    batch = _check_field(game, start, state, batch)
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
        ``game.sample(jax.random.key(0))``.
      axes: number of leading axes of the players, such as run and time.

    Returns:
      The :class:`Alignment`. A cosine is 0 where the field is 0 or the player at its solution.

    Raises:
      ValueError: if no solution is known, for a solution of other shapes than the players, axes
        out of range, or players, state and batch that are not the game's.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> from onesided_jax.analysis import alignment
      >>> game = games.wind_log()
      >>> players, _ = jax.vmap(game.init)(jax.random.split(jax.random.key(0), 3))
      >>> both, primal, dual = alignment(game, players, axes=1)
      >>> bool((primal > 0.5).all()), dual.tolist()  # x* for any dual, no y*
      (True, [nan, nan, nan])

    References:
      This project (docs/theory).
    """
    players = _arrays("players", players)
    leaves = jax.tree.leaves(players)
    _check_integer("axes", axes, 0, min(leaf.ndim for leaf in leaves))
    if len({leaf.shape[:axes] for leaf in leaves}) > 1:
        found = sorted({leaf.shape[:axes] for leaf in leaves})
        raise ValueError(f"axes={axes}: expected the same leading axes of all players, got {found}")
    point = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[axes:], a.dtype), players)
    if solution is None:
        facts = game.facts
        solution = PrimalDual(facts and facts.primal_solution, facts and facts.dual_solution)
    solution = _arrays("solution", solution)
    for name, part, here in zip(PrimalDual._fields, solution, point):
        if part is not None:
            _check_match(f"solution.{name}", part, f"players.{name}", here)
    if all(part is None for part in solution):
        raise ValueError(
            "the game has no x* and no y*: pass solution=PrimalDual(x_star, None), for example "
            "the primal player at the end of another, longer run"
        )
    batch = _check_field(game, point, state, batch)
    return _align(game.field, axes, players, solution, state, batch)


# ---- compiled once for a field: it and the options are static arguments ----


@functools.partial(jax.jit, static_argnames=("field", "player"))
def _jacobian(field, player, players, state, batch):
    """The Jacobian over a row of zeros, ``[n + 1, n]``: in the form of Arnoldi's, with no rest."""
    flat_field, z = _flat(field, player, players, state, batch)
    return jnp.pad(jax.jacfwd(flat_field)(z), ((0, 1), (0, 0)))


@functools.partial(jax.jit, static_argnames=("field", "player", "steps"))
def _arnoldi(field, player, steps, players, state, batch, key):
    """The extended Hessenberg matrix ``[steps + 1, steps]``: ``J Q[:-1]^T = Q^T H``, rows of Q."""
    flat_field, z = _flat(field, player, players, state, batch)
    epsilon = jnp.finfo(z.dtype).eps

    def draw(k):
        return jax.random.normal(jax.random.fold_in(key, k), z.shape, z.dtype)

    def orthogonalise(basis, v):
        h = jnp.zeros(len(basis), v.dtype)
        for _ in range(2):  # twice is enough, and once is not (Kahan and Parlett)
            overlap = jnp.matmul(basis, v, precision="highest")
            v -= jnp.matmul(overlap, basis, precision="highest")
            h += overlap
        return v, h

    def step(basis, k):
        image = jax.jvp(flat_field, (z,), (basis[k],))[1].astype(z.dtype)
        size = _unit(image)[1]
        rest, column = orthogonalise(basis, image)
        # In an invariant subspace nothing is left: go on from a new vector, decoupled.
        ends = _unit(rest)[1] <= 10 * epsilon * size
        new, length = _unit(
            jax.lax.cond(ends, lambda: orthogonalise(basis, draw(k + 1))[0], lambda: rest)
        )
        return basis.at[k + 1].set(new), column.at[k + 1].set(jnp.where(ends, 0, length))

    basis = jnp.zeros((steps + 1, z.size), z.dtype).at[0].set(_unit(draw(0))[0])
    return jax.lax.scan(step, basis, jnp.arange(steps))[1].T


@functools.partial(jax.jit, static_argnames=("field", "points"))
def _path(field, points, start, end, span, state, batch):
    first, unravel = ravel_pytree(start)
    last = ravel_pytree(end)[0].astype(first.dtype)
    direction, _ = _unit(first - last)
    alphas = jnp.linspace(span[0], span[1], points, dtype=first.dtype)

    def place(alpha):
        F, _ = field(unravel((1 - alpha) * first + alpha * last), state, batch)
        unit, norm = _unit(ravel_pytree(F)[0])
        return _cosine(direction, unit), norm

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
            return _cosine(_unit(away)[0], _unit(ravel_pytree(F)[0])[0])

        known = all(part is not None for part in solution)
        return Alignment(cosine(z, solution if known else None, F), *map(cosine, z, solution, F))

    flat = jax.tree.map(lambda a: a.reshape(math.prod(lead), *a.shape[axes:]), players)
    found = jax.lax.map(point, flat, batch_size=_CHUNK)
    return jax.tree.map(lambda c: c.reshape(lead), found)


def _flat(field, player, players, state, batch):
    """A player's share of the field as a function of the player's entries, and these."""
    z, unravel = ravel_pytree(_share(players, player))

    def flat_field(z):
        moved = unravel(z)
        here = moved if player == "both" else players._replace(**{player: moved})
        return ravel_pytree(_share(field(here, state, batch)[0], player))[0]

    return flat_field, z


def _share(both: PrimalDual, player: str) -> Any:
    return both if player == "both" else getattr(both, player)


def _unit(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``v`` over its norm, and the norm; scaled, for squares underflow. A zero vector stays."""
    scale = jnp.max(jnp.abs(v), initial=0)
    nonzero = scale != 0
    v = v / jnp.where(nonzero, scale, 1)
    norm = jnp.sqrt(jnp.sum(v * v))
    return v / jnp.where(nonzero, norm, 1), scale * norm


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.clip(jnp.sum(a * b), -1, 1)


def _ritz(extended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values and residuals of ``[k + 1, k]``; on the host, XLA's own are for the CPU only."""
    if not np.isfinite(extended).all():
        extended = np.full_like(extended, np.nan)
        return extended[0].astype(np.complex128), extended[0]
    values, vectors = np.linalg.eig(extended[:-1])
    return values.astype(np.complex128), np.abs(extended[-1, -1] * vectors[-1])


# ---- checks ----


def _arrays(name: str, players: Any) -> PrimalDual:
    if not isinstance(players, PrimalDual):
        raise ValueError(f"{name}: expected a PrimalDual, got {type(players).__name__}")
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.result_type(a, float)), players)


def _check_integer(name: str, value: Any, low: int, high: int | None = None) -> None:
    top = math.inf if high is None else high
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and low <= value <= top):
        expected = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
        near = f", nearest valid: {min(max(value, low), top)}" if whole else ""
        raise ValueError(f"{name}={value!r}: expected {expected}{near}")


def _check_match(name: str, tree: Any, like_name: str, like: Any) -> None:
    """Raises ``ValueError`` unless both trees have the same structure and shapes."""
    structure, expected = jax.tree.structure(tree), jax.tree.structure(like)
    if structure != expected:
        raise ValueError(f"{name}: expected the structure of {like_name}, {expected}: {structure}")
    for (path, a), b in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(like)):
        if np.shape(a) != np.shape(b):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name}{where} of shape {np.shape(a)}: expected {np.shape(b)}, "
                f"that of {like_name}{where}"
            )


def _check_field(game: Game, players: Any, state: ArrayTree, batch: ArrayTree) -> ArrayTree:
    """The batch to use, once the field takes the players, state and batch, abstractly."""
    batch = game.sample(make_key(0)) if batch is None else batch
    try:
        F, _ = jax.eval_shape(game.field, players, state, batch)
    except Exception as error:
        raise ValueError(
            "the game's field does not take these players, state and batch: expected "
            "players, state = game.init(key) and batch = game.sample(key), and leading axes of "
            "the players only where the function has axes"
        ) from error
    _check_match("the field", F, "players", players)
    return batch
