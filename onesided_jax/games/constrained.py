"""Example problems with constraints."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from onesided_jax.errors import check_integers
from onesided_jax.games.game import Game
from onesided_jax.games.lagrangian import lagrangian

__all__ = ["norm_constrained_logistic"]


def norm_constrained_logistic(
    inputs: Any,
    labels: Any,
    *,
    classes: int,
    bound: float = 1.0,
    batch_size: int | None = None,
    penalty: float = 0.0,
) -> Game:
    r"""Multinomial logistic regression with a bound on the squared parameter norm.

    .. math::
      \min_{W, b} \ \text{mean cross-entropy} \quad \text{subject to} \quad
      \|W\|^2 + \|b\|^2 \le \text{bound}

    The problem of Cooper's tutorial "Training a logistic regression classifier on MNIST under a
    norm constraint". It is convex, so training with ``multiplier * squared_norm`` in the loss
    (weight decay) gives the same classifier.

    Args:
      inputs: ``float[N, ...]``; all axes after the first are flattened.
      labels: ``int[N]`` in ``[0, classes)``.
      classes: number of classes.
      bound: bound on the squared norm, ``> 0``.
      batch_size: rows per evaluation, drawn with replacement; ``None`` takes all rows.
      penalty: see :func:`lagrangian`.

    Returns:
      A :class:`Game` with params ``{"weight": [D, classes], "bias": [classes]}``, drawn uniformly
      from :math:`\pm 1/\sqrt D` as in PyTorch, and one inequality multiplier.

    Raises:
      ValueError: if the numbers of inputs and labels differ, for labels that are no integers in
        ``[0, classes)``, and for a bound or a number out of range.

    Example:
      >>> import numpy as np
      >>> import onesided_jax as osj
      >>> rng = np.random.default_rng(0)
      >>> labels = rng.integers(2, size=100)
      >>> inputs = rng.normal(size=(100, 3)) + 2 * labels[:, None]
      >>> game = osj.games.norm_constrained_logistic(inputs, labels, classes=2)
      >>> runs = osj.grid(seeds=1, primal_learning_rate=0.1, dual_learning_rate=0.1)
      >>> result = osj.sweep(game, osj.extra_sgd, runs, steps=1000)
      >>> osj.games.feasibility(game, result.players).sentence
      ('Every constraint holds within 0.001.',)
    """
    check_integers(2, classes=classes)
    if batch_size is not None:
        check_integers(batch_size=batch_size)
    inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
    if len(inputs) != len(labels):
        raise ValueError(f"{len(inputs)} inputs, {len(labels)} labels: expected equal numbers")
    if (
        not jnp.issubdtype(labels.dtype, jnp.integer)
        or not 0 <= labels.min() <= labels.max() < classes
    ):
        raise ValueError(
            f"labels: expected integers in [0, {classes}), got {labels.dtype} "
            f"from {labels.min()} to {labels.max()}"
        )
    if not bound > 0:
        raise ValueError(f"bound={bound}: expected a number > 0")
    inputs = inputs.reshape(len(inputs), -1)
    width = inputs.shape[1]
    dtype = jnp.result_type(inputs, jnp.float32)

    def init(key):
        weight, bias = jax.random.split(key)
        reach = 1 / width**0.5
        return {
            "weight": jax.random.uniform(weight, (width, classes), dtype, -reach, reach),
            "bias": jax.random.uniform(bias, (classes,), dtype, -reach, reach),
        }

    def sample(key, data):
        if batch_size is None:
            return data
        rows = jax.random.randint(key, (batch_size,), 0, len(data[0]))
        return jax.tree.map(lambda a: a[rows], data)

    def loss(params, batch):
        logits = batch[0] @ params["weight"] + params["bias"][None]
        likelihood = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(likelihood, batch[1][:, None], axis=1).mean()

    def excess(params, batch):
        del batch
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) - bound

    return lagrangian(
        loss, init, inequality=excess, penalty=penalty, sample=sample, data=(inputs, labels)
    )
