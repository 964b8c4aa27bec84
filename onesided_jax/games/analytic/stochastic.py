"""Games with minibatches or noise of known variance."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.errors import check_integers
from onesided_jax.games.analytic._common import (
    joint_lipschitz,
    normal_start,
    require_number,
)
from onesided_jax.games.game import Game, GameFacts, zero_sum_field
from onesided_jax.players import make_key

__all__ = ["finite_sum_bilinear", "robust_glm", "with_noise"]


def with_noise(game: Game, std: float) -> Game:
    r"""Adds independent normal noise to every entry of a game's field.

    Args:
      game: any game.
      std: standard deviation :math:`s \ge 0` of each entry.

    Returns:
      The game with minibatches ``(batch, noise)``. Its ``facts.noise_variance`` grows by
      :math:`n s^2`, with ``n`` the number of primal entries. The losses stay exact.

    Raises:
      ValueError: if ``std`` is negative or not finite.

    Example:
      >>> from onesided_jax import games
      >>> round(games.with_noise(games.carousel(), 0.1).facts.noise_variance, 4)
      0.02
    """
    require_number("std", std, ">= 0", lambda value: value >= 0)
    players, _ = jax.eval_shape(game.init, make_key(0))
    leaves, treedef = jax.tree.flatten(players)

    def sample(key, *data):
        batch_key, noise_key = jax.random.split(key)
        keys = jax.random.split(noise_key, len(leaves))
        noise = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
        return game.sample(batch_key, *data), treedef.unflatten(noise)

    def field(players, state, batch):
        inner, noise = batch
        F, info = game.field(players, state, inner)
        return jax.tree.map(lambda g, e: g + std * e.astype(g.dtype), F, noise), info

    facts = game.facts
    if facts is not None:
        entries = sum(leaf.size for leaf in jax.tree.leaves(players.primal))
        facts = facts._replace(noise_variance=facts.noise_variance + entries * std**2)
    return dataclasses.replace(game, sample=sample, field=field, facts=facts, primal_slope=None)


def robust_glm(
    *,
    dim: int = 100,
    samples: int = 256,
    batch_size: int | None = None,
    label_noise: float = 0.0,
) -> Game:
    r"""O4: a generalised linear model whose samples an adversary reweights.

    .. math::
      f(x, y) = \tfrac1N \sum_i (1 + \tfrac12 \sin y_i)\, \tfrac12
      (\tanh u_i^\top x - \tau_i)^2 + \omega_i y_i, \qquad \tau_i = \tanh u_i^\top x^*

    Each sample satisfies the one-sided MVI at the same :math:`x^*` (interpolation), so minibatches
    cause no noise floor. Label noise breaks both.

    Args:
      dim: dimension of ``x``, ``>= 1``.
      samples: number ``N`` of samples and dimension of ``y``, ``>= 1``.
      batch_size: samples per minibatch, drawn with replacement; ``None`` takes all.
      label_noise: standard deviation added to :math:`\tau_i`, ``>= 0``.

    Returns:
      A game, primal ``f[dim]``, dual ``f[samples]``; starts are standard normal.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> game = games.robust_glm(dim=5, samples=20, batch_size=4)
      >>> game.facts.one_sided_mvi, game.facts.noise_variance > 0
      (True, True)

    References:
      This project (docs/theory).
    """
    check_integers(dim=dim, samples=samples)
    if batch_size is not None:
        check_integers(batch_size=batch_size)
    require_number("label_noise", label_noise, ">= 0", lambda value: value >= 0)
    rng = np.random.default_rng(3)
    U = 1.5 / math.sqrt(dim) * rng.normal(size=(samples, dim))
    solution = rng.normal(size=dim)
    targets = np.tanh(U @ solution) + label_noise * rng.normal(size=samples)
    winds = 0.5 * np.linspace(0.5, 1.5, samples)

    def objective(x, y, batch):
        u, tau, wind = (jnp.asarray(a, x.dtype) for a in (U, targets, winds))
        if batch_size is not None:
            u, tau, wind, y = u[batch], tau[batch], wind[batch], y[batch]
        gap = jnp.tanh(u @ x) - tau
        return jnp.mean((1 + 0.5 * jnp.sin(y)) * 0.5 * gap**2 + wind * y)

    def sample(key):
        return () if batch_size is None else jax.random.randint(key, (batch_size,), 0, samples)

    norm = float(np.linalg.norm(U, 2))
    reach = 1 + float(np.abs(targets).max())  # of |tanh - tau|
    # One sample's gradient: |1 + sin/2| <= 1.5, |gap| sech^2 <= reach, times ||u_i||.
    spread = 0.0 if batch_size is None else (1.5 * reach) ** 2 * np.mean(np.sum(U**2, 1))
    exact = label_noise == 0
    xx = 3.81 * norm**2 / samples * max(1.0, reach / 2)
    xy = norm / samples * max(1.0, reach / 2)
    facts = GameFacts(
        solution if exact else None,
        None,
        exact,
        False,
        xx,
        xy,
        joint_lipschitz(xx, xy, 0.25 * reach**2 / samples),
        star_cocoercivity=samples / (1.5 * norm**2) if exact else None,
        noise_variance=0.0 if batch_size is None else float(spread / batch_size),
    )
    start = normal_start(dim, samples)
    field = zero_sum_field(objective, takes_batch=True)
    return Game(lambda key: (start(key), ()), sample, field, facts=facts)


def finite_sum_bilinear(
    *, dim: int = 4, samples: int = 64, batch_size: int = 1, spread: float = 0.3
) -> Game:
    r"""A finite sum of bilinear games, sampled in minibatches.

    .. math::
      f(x, y) = \tfrac1N \sum_i x^\top A_i y + b_i^\top x + c_i^\top y

    With :math:`\sum_i b_i = \sum_i c_i = 0` and a mean matrix of norm 1, the solution is 0. The MVI
    holds with equality for the mean but for no single sample, so minibatch methods stall at a noise
    floor.

    Args:
      dim: dimension of each player, ``>= 1``.
      samples: number ``N`` of samples, ``>= 2``.
      batch_size: samples per minibatch, drawn with replacement, ``>= 1``.
      spread: standard deviation of the entries of :math:`A_i - A`, :math:`b_i` and :math:`c_i`,
        ``>= 0``.

    Returns:
      A game, primal and dual ``f[dim]``; starts are standard normal. ``facts.noise_variance``
      bounds the variance of a minibatch on the box, where ``|y_i| <= 2``.

    Raises:
      ValueError: for a parameter out of its range.

    Example:
      >>> from onesided_jax import games
      >>> games.finite_sum_bilinear().facts.box
      2.0
    """
    check_integers(dim=dim, batch_size=batch_size)
    check_integers(2, samples=samples)
    require_number("spread", spread, ">= 0", lambda value: value >= 0)
    rng = np.random.default_rng(4)
    A = rng.normal(size=(dim, dim))
    A /= np.linalg.norm(A, 2)
    differences = spread * rng.normal(size=(samples, dim, dim))
    linear = spread * rng.normal(size=(2, samples, dim))
    differences -= differences.mean(0)
    linear -= linear.mean(1, keepdims=True)

    def sample(key):
        return jax.random.randint(key, (batch_size,), 0, samples)

    def objective(x, y, batch):
        D, b, c = (jnp.mean(jnp.asarray(a, x.dtype)[batch], axis=0) for a in (differences, *linear))
        return x @ (jnp.asarray(A, x.dtype) + D) @ y + b @ x + c @ y

    box = 2.0
    longest = box * math.sqrt(dim)
    per_sample = [
        (np.linalg.norm(D, 2) * longest + np.linalg.norm(b)) ** 2
        for D, b in zip(differences, linear[0], strict=True)
    ]
    facts = GameFacts(
        np.zeros(dim),
        np.zeros(dim),
        False,
        True,
        0.0,
        1.0,
        1.0,
        box,
        monotone=True,
        weak_mvi=0.0,
        noise_variance=float(np.mean(per_sample) / batch_size),
    )
    start = normal_start(dim, dim)
    field = zero_sum_field(objective, takes_batch=True)
    return Game(lambda key: (start(key), ()), sample, field, facts=facts)
