"""Gradient descent-ascent and textbook extragradient, without preconditioner."""

from __future__ import annotations

from typing import Any

import optax

from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers.descent_ascent import descent_ascent
from onesided_jax.optimizers.extragradient import extragradient
from onesided_jax.optimizers.iteration import sgd_method
from onesided_jax.optimizers.registry import register

__all__ = ["extra_sgd", "sgda"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


@register(method=sgd_method("plain"))
def sgda(
    primal_learning_rate: Rate, dual_learning_rate: Rate
) -> optax.GradientTransformationExtraArgs:
    """Simultaneous (stochastic) gradient descent-ascent; diverges on bilinear games.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual player.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step, no state.

    Raises:
      ValueError: for a concrete rate out of range.

    Example:
      >>> from onesided_jax import sgda
      >>> tx = sgda(1e-2, 1e-2)

    References:
      Arrow, Hurwicz & Uzawa, Studies in Linear and Non-linear Programming, 1958.
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate, dual_learning_rate=dual_learning_rate
    )
    return descent_ascent(optax.sgd(primal_learning_rate), optax.sgd(dual_learning_rate))


@register(looks_ahead=True, method=sgd_method("extragradient"))
def extra_sgd(
    primal_learning_rate: Rate, dual_learning_rate: Rate, *, opaque_mode: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Korpelevich's extragradient: ``extragradient(sgda(...))``.

    Converges under the MVI for rates below ``1 / L``, with ``L`` the field's Lipschitz constant.

    Args:
      primal_learning_rate: as in :func:`sgda`; a schedule counts iterations.
      dual_learning_rate: the same for the dual player.
      opaque_mode: see :func:`extragradient`.

    Returns:
      A transformation of ``PrimalDual`` trees; ``update`` needs ``grad_fn`` in opaque mode.

    Raises:
      ValueError: for a concrete rate out of range; see also :func:`extragradient`.

    Example:
      >>> from onesided_jax import extra_sgd
      >>> tx = extra_sgd(0.1, 0.1)

    References:
      Korpelevich, The extragradient method for finding saddle points and other problems, 1976.
    """
    base = sgda(primal_learning_rate, dual_learning_rate)
    # The only state is the schedules' count, which "discarded" advances once per iteration.
    return extragradient(base, extrapolation_state="discarded", opaque_mode=opaque_mode)
