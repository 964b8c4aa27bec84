"""Simultaneous Adam."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers.descent_ascent import descent_ascent, first_states
from onesided_jax.optimizers.iteration import Iteration, Method, amsgrad_floor, float64, rates_at
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["adam"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


def _read(opt_state, field, count, settings):
    del field

    def preconditioner(state, player):
        correction = 1 - float64(settings["b2"]) ** state.count
        nu = float64(getattr(state.nu, player))
        return jax.tree.map(lambda v: jnp.sqrt(v / correction) + settings["eps"], nu)

    scale = map(preconditioner, first_states(opt_state), PrimalDual._fields)
    momentum = (settings["b1"], 0, settings["b1"])
    return Iteration(PrimalDual(*scale), rates_at(settings, count), momentum=momentum)


@register(method=Method("plain", amsgrad_floor, _read))
def adam(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Simultaneous Adam: ``descent_ascent(optax.adam(...), optax.adam(...))``.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual player.
      b1: decay of the first moment in ``[0, 1)``; for GANs ``0`` or ``0.5`` is usual.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.

    Returns:
      A transformation of ``PrimalDual`` trees, or of trees with two known top-level keys (see
      :func:`with_player_keys`). One gradient per step.

    Raises:
      ValueError: for a concrete number out of range, or players that are not a ``PrimalDual``.

    Example:
      >>> from onesided_jax import adam
      >>> tx = adam(2e-4, 2e-4, b1=0.5)

    References:
      Kingma & Ba, `Adam <https://arxiv.org/abs/1412.6980>`_, 2015.
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
    )
    return descent_ascent(
        optax.adam(primal_learning_rate, b1, b2, eps), optax.adam(dual_learning_rate, b1, b2, eps)
    )
