"""Constrained problems to learn from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

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
    r"""Multinomial logistic regression whose squared parameter norm is bounded.

    .. math::
      \min_{W, b} \ \text{mean cross-entropy} \quad \text{subject to} \quad
      \|W\|^2 + \|b\|^2 \le \text{bound}

    The problem of Cooper's tutorial "Training a logistic regression classifier on MNIST under a
    norm constraint". Convex, so the multiplier is that of weight decay: training with
    ``multiplier * (norm - bound)`` in the loss gives the same classifier.

    Args:
      inputs: ``float[N, ...]``; what follows the first axis is flattened.
      labels: ``int[N]`` in ``[0, classes)``.
      classes: number of classes.
      bound: of the squared norm, ``> 0``.
      batch_size: rows drawn with replacement for each evaluation; ``None`` takes all of them.
      penalty: see :func:`lagrangian`.

    Returns:
      A :class:`Game` with params ``{"weight": [D, classes], "bias": [classes]}``, uniform in
      :math:`\pm 1/\sqrt D` at first as in PyTorch, and one inequality multiplier.

    Raises:
      ValueError: if the numbers of inputs and labels differ.

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
    inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
    if len(inputs) != len(labels):
        raise ValueError(f"{len(inputs)} inputs, {len(labels)} labels: expected as many of each")
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
