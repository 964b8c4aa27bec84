"""Keeps the players of any optimizer inside a set, also when it looks ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from onesided_jax.optimizers._checks import check_params
from onesided_jax.optimizers._trees import add, cast_like
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.optimizers.iterate import displaced_states, shift_of, with_shift

__all__ = ["projected"]


def projected(
    tx: optax.GradientTransformation, project: Callable[[Any], Any]
) -> optax.GradientTransformationExtraArgs:
    r"""Projects the players after every step and before every call of ``grad_fn``.

    With :math:`P` the projection, extragradient becomes the projected method:

    .. math::
      \tilde z_t = P(z_t - \eta F(z_t)), \qquad z_{t+1} = P(z_t - \eta F(\tilde z_t))

    If the game has a ``project``, :func:`make_step` and :func:`sweep` wrap its optimizer
    themselves; call this in your own loop.

    If the params are displaced points (see :func:`iterate`), both the iterate and the params are
    projected. If only one player's transformation inside ``descent_ascent`` is displaced, only the
    params are projected.

    Args:
      tx: any optimizer of both players.
      project: ``players -> players``, the nearest point of a convex set. It gets both players and
        may leave one unchanged. A box suits every optimizer; other sets do not suit preconditioned
        steps.

    Returns:
      A transformation with the state of ``tx``; extra arguments go to ``tx``. The ``dual_steps`` of
      :func:`alternating` are projected where the field is evaluated and after the last one.

    Raises:
      ValueError: from ``update``, if ``params`` is missing.

    Example:
      >>> import jax.numpy as jnp
      >>> from onesided_jax import PrimalDual, extra_sgd, projected
      >>> tx = projected(extra_sgd(0.5, 0.5), lambda z: z._replace(dual=jnp.maximum(z.dual, 0)))
      >>> field = lambda z, i: PrimalDual(2 * z.primal + z.dual, 1.0 - z.primal)
      >>> z = PrimalDual(0.0, 0.25)
      >>> updates, _ = tx.update(field(z, 0), tx.init(z), z, grad_fn=field)
      >>> float(z.dual + updates.dual)  # without projection below 0
      0.0

    References:
      Korpelevich, The extragradient method for finding saddle points and other problems, 1976.
    """
    tx = with_extra_args(tx)

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        check_params("projected", params)
        if grad_fn is not None:
            extra_args["grad_fn"] = lambda players, i: grad_fn(project(players), i)
        step, state = tx.update(updates, state, params, **extra_args)
        moved = add(params, step)
        states = displaced_states(state)
        shift = shift_of(states[0], moved) if len(states) == 1 else None
        if shift is None:
            inside = project(moved)
        else:
            iterate = project(jax.tree.map(lambda p, d: p - d, moved, shift))
            inside = project(add(iterate, shift))
            shift = cast_like(jax.tree.map(lambda a, b: a - b, inside, iterate), shift)
            state = with_shift(state, shift)
        # Inside the set keep u itself: (p + u) - p would round.
        step = jax.tree.map(
            lambda p, a, m, u: jax.numpy.where(a == m, u, a - p), params, inside, moved, step
        )
        return step, state

    return optax.GradientTransformationExtraArgs(tx.init, update)
