"""Anchored extragradient and Halpern iteration: a vanishing pull to the starting point."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_params, checked_grad_fn
from onesided_jax.optimizers._players import counts_for
from onesided_jax.optimizers._trees import add, copy
from onesided_jax.optimizers.extra_args import with_extra_args

__all__ = ["AnchoredState", "anchored"]


class AnchoredState(NamedTuple):
    """State of :func:`anchored`.

    Attributes:
      base: state of the base transformation.
      start: the params that ``init`` was given, ``z_0``.
      count: int32 scalar, iterations done; one per player if there are two.
    """

    base: Any
    start: Any
    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]


def anchored(
    base: optax.GradientTransformation,
    *,
    form: Literal["extragradient", "halpern"] = "extragradient",
) -> optax.GradientTransformationExtraArgs:
    r"""Adds a vanishing pull to the starting point, for the best rate on monotone games.

    With :math:`b_k = 1 / (k + 2)`, :math:`k = 0, 1, \dots`, and :math:`B` one step of ``base``:

    .. math::
      \text{extragradient (EAG-C):}\quad & \tilde z = z_k + b_k (z_0 - z_k) + B(F(z_k)), \qquad
      z_{k+1} = z_k + b_k (z_0 - z_k) + B(F(\tilde z)) \\
      \text{halpern:}\quad & z_{k+1} = b_k z_0 + (1 - b_k) (z_k + B(F(z_k)))

    For monotone ``F`` and ``base = optax.sgd(a)``, :math:`a \le 1 / (8 L)`, EAG-C has
    :math:`\|F(z_k)\|^2 = O(1/k^2)` at the *last* iterate, one order better than extragradient.
    Halpern needs a cocoercive field. Both need exact gradients: with minibatches the pull vanishes
    and the noise stays.

    Args:
      base: the step. The theory covers ``optax.sgd``; for two players use :func:`descent_ascent`.
      form: ``"extragradient"`` evaluates the field twice, ``"halpern"`` once.

    Returns:
      A transformation with ``update(F, state, params, *, grad_fn, **extra)``; ``"halpern"`` needs
      no ``grad_fn``. The state adds one copy of the params. Only the update half-step advances the
      state of ``base``.

    Raises:
      ValueError: for an unknown ``form``; from ``update`` if ``params`` or ``grad_fn`` is missing.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, anchored
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = anchored(optax.sgd(0.125))
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(400):
      ...     updates, state = tx.update(field(players, 0), state, players, grad_fn=field)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(players.primal**2 + players.dual**2 < 1e-2)
      True

    References:
      Yoon & Ryu, `Accelerated Algorithms for Smooth Convex-Concave Minimax Problems with O(1/k^2)
      Rate on Squared Gradient Norm <https://arxiv.org/abs/2102.07922>`_, 2021 (EAG-C).
      Halpern, Fixed points of nonexpanding maps, 1967.
    """
    check_choice("form", form, ("extragradient", "halpern"))
    base = with_extra_args(base)

    def init(params):
        check_params("anchored", params)
        return AnchoredState(base.init(params), copy(params), counts_for(params))

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        halpern = form == "halpern"
        check_params("anchored", params)
        fraction = jax.tree.map(lambda count: 1.0 / (count + 2), state.count)

        def pulled(b, start, here):
            return jax.tree.map(lambda z0, z: jnp.asarray(b, z0.dtype) * (z0 - z), start, here)

        def moved(b, pull, step):
            shrink = 1.0 - b if halpern else 1.0
            return jax.tree.map(
                lambda p, u: p + jnp.asarray(shrink, jnp.result_type(u)) * u, pull, step
            )

        pull = jax.tree.map(pulled, fraction, state.start, params)
        step, base_state = base.update(updates, state.base, params, **extra_args)
        if not halpern:
            grad_fn = checked_grad_fn("anchored", updates, params, grad_fn)
            field = grad_fn(add(add(params, pull), step), 0)
            step, base_state = base.update(field, state.base, params, **extra_args)
        count = jax.tree.map(optax.safe_increment, state.count)
        step = jax.tree.map(moved, fraction, pull, step)
        return step, AnchoredState(base_state, state.start, count)

    return optax.GradientTransformationExtraArgs(init, update)
