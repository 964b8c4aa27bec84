"""Measurements on a game at given players: compiled once, fed checkpoint after checkpoint."""

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

__all__ = ["CrossMatrix", "Probe", "make_probe"]

# Evaluation batches come from keys of their own, the same for every checkpoint and run (common
# random numbers); training keys descend from the runs' seeds.
_EVALUATION_SEED = 2109_14213


class CrossMatrix(NamedTuple):
    """``<x_s - x*, grad_x f(x_s, y_t)>`` of one run at n points; exact games have one sample.

    Attributes:
      loss: ``[n, S, T, samples]``, the primal player's loss at ``(x_s, y_t)``.
      slope: ``[n, S, T, samples]``, its derivative along ``x_s - x*``.
    """

    loss: np.ndarray
    slope: np.ndarray


class Probe(NamedTuple):
    """Compiled measurements of one game.

    Attributes:
      exact: whether the game is deterministic, so that every number is exact.
      norms: ``(players, state) -> PrimalDual[SquaredNorm[R]]``, leaves with a run axis.
      cross: ``(primals[S], duals[T], state, targets[n]) -> CrossMatrix`` of one run at each of n
        points ``x*``.
      primal_norms: ``(primals[S], duals[T], state) -> SquaredNorm[S, T]``, of the primal gradient.
    """

    exact: bool
    norms: Callable[[PrimalDual, ArrayTree], PrimalDual]
    cross: Callable[..., CrossMatrix]
    primal_norms: Callable[..., SquaredNorm]


def make_probe(
    game: Game, *, microbatches: int = 32, samples: int = 256, cross_microbatches: int = 3
) -> Probe:
    """Prepares the measurements of a game.

    Args:
      game: the game that was played; its field is used in training mode, with its state not
        updated, and with the training batch size as the microbatch.
      microbatches: minibatch gradients per U-statistic of a player's squared norm, ``>= 3``.
      samples: at least so many samples per entry of a cross matrix.
      cross_microbatches: minibatch gradients per entry for the norms in a cross matrix, ``>= 3``.
        Of so few the jackknife's error is twice the true one: entries near the noise floor are
        given up rather than guessed.

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
    batch_like = jax.eval_shape(game.batch, make_key(0))
    exact = not jax.tree.leaves(batch_like)
    key = make_key(_EVALUATION_SEED)
    norm_keys = jax.random.split(jax.random.fold_in(key, 0), microbatches)
    cross_norm_keys = jax.random.split(jax.random.fold_in(key, 1), cross_microbatches)
    slope_samples, batches = _slope_sampler(game, exact, batch_like, samples)
    slope_keys = jax.random.split(jax.random.fold_in(key, 2), batches)

    def field(players, state, key):
        return game.field(players, state, game.sample(key))[0]

    def gram(gradients_of: Callable[[Any], tuple], keys) -> tuple:
        """Per part of the gradient its squared norm if exact, else the batches' Gram matrix."""
        if exact:
            gradients = gradients_of(keys[0])
            parts = [_dot_rows(jax.tree.map(lambda g: g[None], part))[0, 0] for part in gradients]
        else:
            gradients = jax.lax.map(gradients_of, keys)
            parts = [_dot_rows(part) for part in gradients]
        return tuple(parts)

    def finish(statistic: jax.Array) -> SquaredNorm:
        host = np.asarray(statistic, np.float64)
        return exact_squared_norm(host) if exact else squared_norm(host)

    def both_norms(run):
        players, state = run
        return gram(lambda key: field(players, state, key), norm_keys)

    @jax.jit
    def norms(players, state):
        return (_vmap if exact else jax.lax.map)(both_norms, (players, state))

    def measure_norms(players, state):
        return PrimalDual(*map(finish, norms(players, state)))

    @jax.jit
    def cross(primals, duals, state, targets):
        def row(target, primal):
            direction = jax.tree.map(jnp.subtract, primal, target)

            def batch(key):
                one = functools.partial(slope_samples, primal, state, direction, key)
                return jax.vmap(one)(duals)  # the generator's part has no t axis: done once

            loss, slope = jax.lax.map(batch, slope_keys)  # [batches, T, m]
            return _samples_last(loss), _samples_last(slope)

        loop = _vmap if exact else jax.lax.map
        return loop(lambda target: loop(lambda x: row(target, x), primals), targets)

    def measure_cross(primals, duals, state, targets):
        matrix = cross(primals, duals, state, targets)
        return CrossMatrix(*(np.asarray(part, np.float64) for part in matrix))

    @jax.jit
    def primal_norms(primals, duals, state):
        def entry(primal, dual):
            def gradient(key):
                return (field(PrimalDual(primal, dual), state, key).primal,)

            return gram(gradient, cross_norm_keys)[0]

        loop = _vmap if exact else jax.lax.map
        return loop(lambda p: loop(lambda d: entry(p, d), duals), primals)

    def measure_primal_norms(primals, duals, state):
        return finish(primal_norms(primals, duals, state))

    return Probe(exact, measure_norms, measure_cross, measure_primal_norms)


def _slope_sampler(game: Game, exact: bool, batch_like: Any, samples: int):
    """``(primal, state, direction, key, dual) -> (losses[m], slopes[m])`` and how many keys.

    From the game's own per-sample slopes where it has them, else one sample per minibatch.
    """
    if game.primal_slope is not None and not exact:
        sizes = [leaf.shape[0] for leaf in jax.tree.leaves(batch_like) if leaf.shape]
        per_batch = max(sizes, default=1)

        def per_sample(primal, state, direction, key, dual):
            players = PrimalDual(primal, dual)
            return game.primal_slope(players, state, direction, game.sample(key))  # pyright: ignore[reportOptionalCall]

        return per_sample, -(-samples // per_batch)

    def per_minibatch(primal, state, direction, key, dual):
        F, info = game.field(PrimalDual(primal, dual), state, game.sample(key))
        slope = sum(
            jnp.vdot(d, g)
            for d, g in zip(jax.tree.leaves(direction), jax.tree.leaves(F.primal), strict=True)
        )
        return info.losses.primal[None], jnp.asarray(slope)[None]

    return per_minibatch, 1 if exact else samples


def _samples_last(parts: jax.Array) -> jax.Array:
    """``[batches, T, m]`` as ``[T, batches * m]``."""
    return jnp.moveaxis(parts, 0, 1).reshape(parts.shape[1], -1)


def _vmap(function: Callable[[Any], Any], xs: Any) -> Any:
    return jax.vmap(function)(xs)


def _dot_rows(stacked: Any) -> jax.Array:
    """Gram matrix ``[K, K]`` of the K rows of a tree of gradients."""
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(stacked)]
    return sum(
        (jnp.matmul(row, row.T, precision=jax.lax.Precision.HIGHEST) for row in rows),
        start=jnp.zeros((), rows[0].dtype),
    )
