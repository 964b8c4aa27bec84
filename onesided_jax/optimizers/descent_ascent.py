"""Simultaneous descent-ascent: one optax transformation per player."""

from __future__ import annotations

from typing import Any

import optax

from onesided_jax.optimizers._players import over_players
from onesided_jax.players import PrimalDual

__all__ = ["descent_ascent"]


def descent_ascent(
    primal: optax.GradientTransformation, dual: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    r"""Simultaneous descent-ascent: gives each player its own optax transformation.

    The players may differ in learning rate (two time-scale update rule, TTUR), betas, clipping or
    the whole algorithm. Weight decay, clipping and schedules go inside. It is
    :func:`optax.partition` over :class:`PrimalDual`: the primal's transformation, and any mask or
    partition inside it, sees ``PrimalDual(player, optax.MaskedNode())``; the dual's sees the
    reverse.

    .. math::
      x_{t+1} = x_t + \mathrm{primal}(F_x(x_t, y_t)), \qquad
      y_{t+1} = y_t + \mathrm{dual}(F_y(x_t, y_t))

    with the field in descent form, :math:`F = (\nabla_x f, -\nabla_y f)`. Both transformations
    descend, so never use a negative learning rate.

    Args:
      primal: transformation of the min player's part.
      dual: transformation of the max player's part.

    Returns:
      A transformation of ``PrimalDual`` trees, or of trees with two top-level keys such as
      ``generator`` and ``discriminator``. Extra arguments go to both players.

    Raises:
      ValueError: from ``init`` or ``update``, for any other tree.

    Example:
      >>> import jax, optax
      >>> from onesided_jax import PrimalDual, descent_ascent
      >>> tx = descent_ascent(optax.sgd(0.1), optax.adam(0.4))
      >>> players = PrimalDual(primal=1.0, dual=2.0)
      >>> F = PrimalDual(primal=2.0, dual=-1.0)  # f(x, y) = x * y
      >>> updates, _ = tx.update(F, tx.init(players), players)
      >>> [round(float(u), 3) for u in updates]
      [-0.2, 0.4]

      Weight decay for matrices, not for biases:

      >>> matrices = lambda part: jax.tree.map(lambda leaf: leaf.ndim > 1, part)
      >>> decayed = optax.adamw(1e-3, mask=matrices)
      >>> tx = descent_ascent(decayed, decayed)

    References:
      Heusel et al., `GANs Trained by a Two Time-Scale Update Rule
      <https://arxiv.org/abs/1706.08500>`_, 2017.
    """
    partition = optax.partition({"primal": primal, "dual": dual}, PrimalDual("primal", "dual"))
    return over_players("descent_ascent", partition)


def first_states(opt_state: Any) -> PrimalDual:
    """The state of the first transformation in each player's chain."""
    inner = opt_state.inner_states
    return PrimalDual(*(inner[player].inner_state[0] for player in PrimalDual._fields))
