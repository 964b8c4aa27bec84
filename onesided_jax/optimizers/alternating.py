"""Alternating descent-ascent: the dual steps first, then the primal."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from onesided_jax.optimizers._checks import check_count, check_hyperparameters, checked_grad_fn
from onesided_jax.optimizers._players import over_players
from onesided_jax.optimizers._trees import add
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["AlternatingState", "alternating", "alternating_adam"]


class AlternatingState(NamedTuple):
    """State of :func:`alternating`.

    Attributes:
      primal: state of the primal's transformation.
      dual: state of the dual's.
    """

    primal: Any
    dual: Any


def alternating(
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation,
    dual_steps: int = 1,
) -> optax.GradientTransformationExtraArgs:
    r"""The dual steps first, then the primal steps against the new dual; usual for GANs.

    The first rule runs ``dual_steps`` times, then the second runs once:

    .. math::
      y \leftarrow y + \mathrm{dual}(F_y(x_t, y)), \qquad
      x_{t+1} = x_t + \mathrm{primal}(F_x(x_t, y_{t+1}))

    The first dual step uses the field given to ``update``. Later dual steps use
    ``grad_fn(players, i)`` with ``i = 0, ..., dual_steps - 2``, and the primal step uses
    ``i = dual_steps - 1``. Under ``jit`` XLA removes the unused half of each field.

    Args:
      primal: transformation of the min player's part.
      dual: transformation of the max player's part. Its schedules count dual steps, ``dual_steps``
        per iteration (:func:`alternating_adam` corrects for that).
      dual_steps: dual steps per primal step, ``>= 1``; unrolled into the program.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``. Extra
      arguments go to both players. It has no state of its own.

    Raises:
      ValueError: if ``dual_steps`` is not an integer ``>= 1``; from ``update`` if ``params`` or
        ``grad_fn`` is missing or the players are not a pair.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, alternating
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = alternating(optax.sgd(0.5), optax.sgd(0.5))
      >>> players = PrimalDual(1.0, 1.0)
      >>> updates, _ = tx.update(field(players, 0), tx.init(players), players, grad_fn=field)
      >>> [float(u) for u in updates]  # x steps at y = 1.5
      [-0.75, 0.5]

    References:
      Goodfellow et al., `Generative Adversarial Nets <https://arxiv.org/abs/1406.2661>`_, 2014,
      Algorithm 1.
    """
    check_count("dual_steps", dual_steps)
    primal = with_extra_args(primal)
    dual = with_extra_args(dual)

    def init(params):
        if not isinstance(params, PrimalDual):  # a placeholder of optax.tree_map_params
            return AlternatingState(primal.init(params), dual.init(params))
        return AlternatingState(primal.init(params.primal), dual.init(params.dual))

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        grad_fn = checked_grad_fn("alternating", updates, params, grad_fn)
        assert params is not None
        field, players, dual_state, moved = updates, params, state.dual, None
        for i in range(dual_steps):
            step, dual_state = dual.update(field.dual, dual_state, players.dual, **extra_args)
            moved = step if moved is None else jax.tree.map(lambda a, b: a + b, moved, step)
            players = PrimalDual(players.primal, add(players.dual, step))
            field = grad_fn(players, i)
        step, primal_state = primal.update(field.primal, state.primal, params.primal, **extra_args)
        return PrimalDual(step, moved), AlternatingState(primal_state, dual_state)

    return over_players("alternating", optax.GradientTransformationExtraArgs(init, update))


@register(looks_ahead=True)
def alternating_adam(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    dual_steps: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Alternating Adam, the usual method in GAN code.

    ``alternating(optax.adam(...), optax.adam(...))``, except that a dual schedule counts
    iterations: all ``dual_steps`` of an iteration have one rate.

    Args:
      primal_learning_rate: rate of the primal player; number or schedule, as in :func:`adam`.
      dual_learning_rate: the same for the dual player.
      b1: decay of the first moment in ``[0, 1)``.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      dual_steps: dual steps per primal step, ``>= 1``.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``.

    Raises:
      ValueError: for a concrete number out of range.

    Example:
      >>> from onesided_jax import alternating_adam
      >>> tx = alternating_adam(2e-4, 2e-4, b1=0.5)
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
    )
    check_count("dual_steps", dual_steps)
    rate = dual_learning_rate
    per_iteration: Any = (lambda count: rate(count // dual_steps)) if callable(rate) else rate
    return alternating(
        optax.adam(primal_learning_rate, b1, b2, eps),
        optax.adam(per_iteration, b1, b2, eps),
        dual_steps,
    )
