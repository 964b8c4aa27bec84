"""Eigenvalues of the Jacobian of a game's field at a point.

They explain why a method stalls or circles: eigenvalues off the real axis mean rotation.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from onesided_jax.errors import check_choice, check_integers
from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual, PRNGKey, make_key
from onesided_jax.theory.points import as_players, batch_for, unit

__all__ = ["Spectrum", "jacobian_spectrum"]

_DENSE = 512  # entries up to which "auto" forms the Jacobian
_KRYLOV = 64  # Arnoldi's default number of steps


class Spectrum(NamedTuple):
    """Eigenvalues of a field's Jacobian, NumPy arrays.

    Attributes:
      eigenvalues: ``complex[k]``, by magnitude, largest first; in a conjugate pair the one with
        positive imaginary part first. NaN if the Jacobian is not finite.
      residuals: ``float[k]``, ``||J v - lambda v||`` for each unit Ritz vector ``v``, at least the
        rounding error of the largest eigenvalue; 0 if dense. Some matrix within this distance of
        ``J`` has exactly this eigenvalue.
      method: "dense" or "arnoldi".
    """

    eigenvalues: np.ndarray
    residuals: np.ndarray
    method: str


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
    all eigenvalues. This needs :math:`\mathrm{Re}\,\lambda > 0`, and small rates if the imaginary
    parts, the rotation, dominate. A small game's whole Jacobian is formed. Otherwise Arnoldi's
    method computes the largest eigenvalues from products with vectors (``jax.jvp``). It does not
    restart, so outer eigenvalues converge first; the residuals show which have converged.

    Args:
      game: the game.
      players: the point.
      state: the game's state, from ``game.init``.
      batch: minibatch for ``F``; ``None`` takes ``game.batch(jax.random.key(0))``.
      key: draws Arnoldi's first vector; ``None`` takes ``jax.random.key(0)``.
      count: number ``k`` of eigenvalues, from 1 to the number ``n`` of entries of the players.
        Arnoldi makes ``k`` steps and keeps ``k + 1`` vectors like the players, so ask for a few
        times as many as should converge. ``None``: all if dense, else ``min(n, 64)``.
      method: "dense", "arnoldi", or "auto", which is dense up to ``n = 512``.
      player: "both"; or "primal" or "dual" for that player's diagonal block, the Hessian of that
        player's loss.

    Returns:
      The :class:`Spectrum`, in the precision of the players.

    Raises:
      ValueError: for an unknown method or player, ``count`` out of range, or players, state or
        batch that do not fit the game.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> from onesided_jax.theory import jacobian_spectrum
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
    players = as_players("players", players)
    n = sum(leaf.size for leaf in jax.tree.leaves(_share(players, player)))
    if count is not None:
        check_integers(1, n, count=count)
    batch = batch_for(game, players, state, batch)

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
    if method == "arnoldi":  # these estimates fall below the rounding error
        residuals = np.maximum(residuals, jnp.finfo(dtype).eps * np.abs(values).max())
    order = np.lexsort((-np.imag(values), -np.real(values), -np.abs(values)))[:count]
    values = values[order].astype(jnp.promote_types(dtype, jnp.complex64))
    return Spectrum(values, residuals[order].astype(dtype), method)


# Compiled once per field, because the field and the options are static arguments.


@functools.partial(jax.jit, static_argnames=("field", "player"))
def _jacobian(field, player, players, state, batch):
    """The Jacobian above a row of zeros, ``[n + 1, n]``, as `_arnoldi` returns it."""
    flat_field, z = _flat(field, player, players, state, batch)
    return jnp.pad(jax.jacfwd(flat_field)(z), ((0, 1), (0, 0)))


@functools.partial(jax.jit, static_argnames=("field", "player", "steps"))
def _arnoldi(field, player, steps, players, state, batch, key):
    """The extended Hessenberg matrix ``H[steps + 1, steps]``; ``J Q[:-1]^T = Q^T H``."""
    flat_field, z = _flat(field, player, players, state, batch)
    epsilon = jnp.finfo(z.dtype).eps

    def draw(k):
        return jax.random.normal(jax.random.fold_in(key, k), z.shape, z.dtype)

    def orthogonalise(basis, v):
        h = jnp.zeros(len(basis), v.dtype)
        for _ in range(2):  # one pass is not enough, two are (Kahan and Parlett)
            overlap = jnp.matmul(basis, v, precision="highest")
            v -= jnp.matmul(overlap, basis, precision="highest")
            h += overlap
        return v, h

    def step(basis, k):
        image = jax.jvp(flat_field, (z,), (basis[k],))[1].astype(z.dtype)
        size = unit(image)[1]
        rest, column = orthogonalise(basis, image)
        # If nothing is left, the subspace is invariant: continue with a new, decoupled vector.
        ends = unit(rest)[1] <= 10 * epsilon * size
        new, length = unit(
            jax.lax.cond(ends, lambda: orthogonalise(basis, draw(k + 1))[0], lambda: rest)
        )
        return basis.at[k + 1].set(new), column.at[k + 1].set(jnp.where(ends, 0, length))

    basis = jnp.zeros((steps + 1, z.size), z.dtype).at[0].set(unit(draw(0))[0])
    return jax.lax.scan(step, basis, jnp.arange(steps))[1].T


def _flat(field, player, players, state, batch):
    """A player's share of the field as a function of a flat vector, and that vector."""
    z, unravel = ravel_pytree(_share(players, player))

    def flat_field(z):
        moved = unravel(z)
        here = moved if player == "both" else players._replace(**{player: moved})
        return ravel_pytree(_share(field(here, state, batch)[0], player))[0]

    return flat_field, z


def _share(both: PrimalDual, player: str) -> Any:
    return both if player == "both" else getattr(both, player)


def _ritz(extended: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values and residuals of ``[k + 1, k]``, on the host: XLA has ``eig`` on CPU only."""
    if not np.isfinite(extended).all():
        extended = np.full_like(extended, np.nan)
        return extended[0].astype(np.complex128), extended[0]
    values, vectors = np.linalg.eig(extended[:-1])
    return values.astype(np.complex128), np.abs(extended[-1, -1] * vectors[-1])
