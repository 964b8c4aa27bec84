"""Measurements of a game at given players, compiled once for all checkpoints."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.analysis.estimators import SquaredNorm, exact_squared_norm, squared_norm
from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual, make_key

__all__ = ["Probe", "make_probe"]

# Evaluation batches use the same keys for every checkpoint and run (common random numbers).
# Training keys are derived from the runs' seeds instead.
_EVALUATION_SEED = 2109_14213


class Probe(NamedTuple):
    """Compiled measurements of one game.

    Attributes:
      exact: whether the game is deterministic, so that all numbers are exact.
      norms: ``(players, state) -> PrimalDual[SquaredNorm[R]]``, leaves with a run axis.
      cross: ``(primals[S], duals[T], state, target) -> [S, T, samples]`` for one run: samples of
        ``<x_s - x*, grad_x f(x_s, y_t)>`` with ``x* = target``. One sample if exact.
      primal_norms: ``(primals[S], duals[T], state) -> SquaredNorm[S, T]`` of the primal gradient.
    """

    exact: bool
    norms: Callable[[PrimalDual, ArrayTree], PrimalDual]
    cross: Callable[..., np.ndarray]
    primal_norms: Callable[..., SquaredNorm]


def make_probe(
    game: Game, *, microbatches: int = 32, samples: int = 256, cross_microbatches: int = 3
) -> Probe:
    """Prepares the measurements of a game.

    Args:
      game: the game. Its field is used in training mode; its state is not updated. A microbatch has
        the size of a training batch.
      microbatches: minibatch gradients per U-statistic of a player's squared norm, ``>= 3``.
      samples: minimum number of samples per entry of a cross matrix.
      cross_microbatches: minibatch gradients per norm in a cross matrix, ``>= 3``. With 3, the
        jackknife error is twice the true error, so entries near the noise floor become NaN.

    Returns:
      A :class:`Probe`.

    Example:
      >>> import jax
      >>> from onesided_jax import games
      >>> from onesided_jax.analysis.measure import make_probe
      >>> game = games.bilinear(dim=2)
      >>> players, state = jax.vmap(game.init)(jax.random.split(jax.random.key(0), 3))
      >>> probe = make_probe(game)
      >>> probe.exact, probe.norms(players, state).primal.value.shape
      (True, (3,))
    """
    data = jax.tree.map(jnp.asarray, game.data)  # an argument of the programs, not a constant
    batch_like = jax.eval_shape(game.batch, make_key(0), data)
    exact = not jax.tree.leaves(batch_like)
    each = _vmap if exact else jax.lax.map
    slopes, batches = _slopes(game, exact, batch_like, samples)
    counts = (1, 1, 1) if exact else (microbatches, cross_microbatches, batches)
    norm_keys, cross_norm_keys, slope_keys = (
        jax.random.split(jax.random.fold_in(make_key(_EVALUATION_SEED), i), count)
        for i, count in enumerate(counts)
    )

    def finish(gram: jax.Array) -> SquaredNorm:
        host = np.asarray(gram, np.float64)
        return exact_squared_norm(host[..., 0, 0]) if exact else squared_norm(host)

    def field(players, state, data, key):
        return game.field(players, state, game.batch(key, data))[0]

    @jax.jit
    def norms(players, state, data):
        def one(run):
            return _grams(functools.partial(field, *run, data), norm_keys)

        return each(one, (players, state))

    @jax.jit
    def cross(primals, duals, state, target, data):
        def row(primal):
            direction = jax.tree.map(jnp.subtract, primal, target)

            def batch(key):  # vmap over the duals only, so that the generator runs once for all
                def entry(dual):
                    return slopes(PrimalDual(primal, dual), state, direction, game.batch(key, data))

                return jax.vmap(entry)(duals)

            found = jax.lax.map(batch, slope_keys)  # [batches, T, m]
            return jnp.moveaxis(found, 0, 1).reshape(found.shape[1], -1)

        return each(row, primals)

    @jax.jit
    def primal_norms(primals, duals, state, data):
        def entry(primal, dual):
            def gradient(key):
                return (field(PrimalDual(primal, dual), state, data, key).primal,)

            return _grams(gradient, cross_norm_keys)[0]

        return each(lambda primal: each(lambda dual: entry(primal, dual), duals), primals)

    return Probe(
        exact,
        lambda *of: PrimalDual(*map(finish, norms(*of, data))),
        lambda *of: np.asarray(cross(*of, data), np.float64),
        lambda *of: finish(primal_norms(*of, data)),
    )


def _slopes(game: Game, exact: bool, batch_like: Any, samples: int) -> tuple[Callable, int]:
    """Returns ``(players, state, direction, batch) -> slopes[m]``, and the number of minibatches.

    A minibatch gives one slope per sample if the game supports it, else one mean slope.
    """
    if game.primal_slope is not None and not exact:
        sizes = [leaf.shape[0] for leaf in jax.tree.leaves(batch_like) if leaf.shape]
        per_sample = game.primal_slope
        return lambda *of: per_sample(*of)[1], -(-samples // max(sizes, default=1))

    def mean_slope(players, state, direction, batch):
        gradient = game.field(players, state, batch)[0].primal
        products = jax.tree.map(jnp.vdot, direction, gradient)
        return jnp.asarray(sum(jax.tree.leaves(products)))[None]

    return mean_slope, samples


def _vmap(function: Callable[[Any], Any], xs: Any) -> Any:
    return jax.vmap(function)(xs)


def _grams(gradients_of: Callable[[jax.Array], tuple], keys: jax.Array) -> tuple:
    """For each part of the gradient, the Gram matrix over K minibatches."""
    return tuple(map(_gram, jax.lax.map(gradients_of, keys)))


def _gram(stacked: Any) -> jax.Array:
    """Gram matrix ``[K, K]`` of the K rows of a tree of gradients."""
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(stacked)]
    return sum(
        (jnp.matmul(row, row.T, precision=jax.lax.Precision.HIGHEST) for row in rows),
        start=jnp.zeros((), rows[0].dtype),
    )
