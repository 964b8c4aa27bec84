"""Extragradient+: a long extrapolation and a short update."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_hyperparameters, check_not_masked, checked_grad_fn
from onesided_jax.optimizers._trees import add
from onesided_jax.optimizers.extragradient import (
    EXTRAPOLATION_STATES,
    ExtragradientState,
    half_steps,
)
from onesided_jax.optimizers.iteration import sgd_method
from onesided_jax.optimizers.registry import register
from onesided_jax.optimizers.sgd import sgda

__all__ = ["extra_plus_sgd", "extragradient_plus"]


def extragradient_plus(
    base: optax.GradientTransformation,
    *,
    update_scale: Any = 0.5,
    extrapolation_state: Literal["carried", "discarded", "separate"] = "discarded",
) -> optax.GradientTransformationExtraArgs:
    r"""Extragradient whose update is shorter than its extrapolation, for weak MVIs.

    .. math::
      \tilde z_t = z_t + B_s(F(z_t)), \qquad z_{t+1} = z_t + a\, B_{s'}(F(\tilde z_t)), \quad a < 1

    With ``base = optax.sgd(gamma)`` this is EG+ with :math:`\eta = a \gamma`. It converges on games
    where plain extragradient with the same :math:`\gamma` diverges (weak MVI,
    :math:`\rho < \gamma - \eta`). :func:`amsgrad_eg` with ``update_scale`` is the form with one
    shared AMSGrad preconditioner, which our Theorem 9 covers.

    Args:
      base: any transformation; for two players ``extragradient_plus(descent_ascent(...))``.
      update_scale: :math:`a > 0`, normally below 1; float, scalar array or tracer.
      extrapolation_state: as in :func:`extragradient`.

    Returns:
      A transformation with ``update(F, state, params, *, grad_fn, **extra)``, as
      :func:`extragradient` in opaque mode.

    Raises:
      ValueError: for an argument out of range; from ``update`` if ``params`` or ``grad_fn`` is
        missing, or inside ``partition`` or ``masked``.

    Example:
      >>> import optax
      >>> from onesided_jax import extragradient_plus
      >>> tx = extragradient_plus(optax.sgd(0.5), update_scale=0.5)

    References:
      Diakonikolas, Daskalakis & Jordan, `Efficient Methods for Structured Nonconvex-Nonconcave
      Min-Max Optimization <https://arxiv.org/abs/2011.00364>`_, 2021.
    """
    check_hyperparameters(update_scale=update_scale)
    check_choice("extrapolation_state", extrapolation_state, EXTRAPOLATION_STATES)
    extrapolate, commit = half_steps(base, extrapolation_state)

    def init(params):
        check_not_masked("extragradient_plus", params)
        separate = base.init(params) if extrapolation_state == "separate" else ()
        return ExtragradientState(base.init(params), separate, anchor=(), phase=())

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        grad_fn = checked_grad_fn("extragradient_plus", updates, params, grad_fn)
        looked, state = extrapolate(updates, state, params, extra_args)
        step, state = commit(grad_fn(add(params, looked), 0), state, params, extra_args)
        return jax.tree.map(lambda u: jnp.asarray(update_scale, u.dtype) * u, step), state

    return optax.GradientTransformationExtraArgs(init, update)


@register(
    looks_ahead=True,
    method=sgd_method("extragradient", lambda settings: settings["update_scale"]),
)
def extra_plus_sgd(
    primal_learning_rate: Any, dual_learning_rate: Any, *, update_scale: Any = 0.5
) -> optax.GradientTransformationExtraArgs:
    """EG+ with two learning rates: ``extragradient_plus(sgda(...))``.

    The rates are those of the extrapolation; the update's rates are ``update_scale`` times these.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual player.
      update_scale: :math:`a > 0`, normally below 1; float, scalar array or tracer.

    Returns:
      A transformation of ``PrimalDual`` trees; ``update`` needs ``grad_fn``.

    Raises:
      ValueError: for a concrete number out of range; see also :func:`extragradient_plus`.

    Example:
      >>> from onesided_jax.optimizers import extra_plus_sgd
      >>> tx = extra_plus_sgd(0.5, 0.5, update_scale=0.5)

    References:
      Diakonikolas, Daskalakis & Jordan, `Efficient Methods for Structured Nonconvex-Nonconcave
      Min-Max Optimization <https://arxiv.org/abs/2011.00364>`_, 2021.
    """
    base = sgda(primal_learning_rate, dual_learning_rate)
    return extragradient_plus(base, update_scale=update_scale)
