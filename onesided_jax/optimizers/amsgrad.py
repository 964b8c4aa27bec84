"""Simultaneous AMSGrad in three conventions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._second_moment import (
    CONVENTIONS,
    Convention,
    preconditioner,
)
from onesided_jax.optimizers._trees import at_least_single, single_full, single_zeros
from onesided_jax.optimizers.descent_ascent import descent_ascent, first_states
from onesided_jax.optimizers.iteration import (
    Iteration,
    Method,
    amsgrad_floor,
    amsgrad_preconditioner,
    rates_at,
)
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["amsgrad"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


def _read(opt_state, field, count, settings):
    del field
    states = first_states(opt_state)
    counts = PrimalDual(*(state.count for state in states))
    nu_max = PrimalDual(states.primal.nu_max.primal, states.dual.nu_max.dual)
    scale = amsgrad_preconditioner(counts, nu_max, settings)
    momentum = (settings["b1"], 0, settings["b1"])
    return Iteration(scale, rates_at(settings, count), momentum=momentum)


@register(method=Method("plain", amsgrad_floor, _read))
def amsgrad(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    convention: Convention = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Simultaneous AMSGrad: Adam with the running maximum of the second moment.

    Args:
      primal_learning_rate: as in :func:`adam`.
      dual_learning_rate: as in :func:`adam`.
      b1: decay of the first moment in ``[0, 1)``.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      convention: ``"optax"`` corrects the bias of both moments before the maximum, as
        ``optax.amsgrad``. ``"classic"`` corrects nothing (Reddi et al.). ``"torch"`` corrects
        after the maximum, as ``torch.optim.Adam(amsgrad=True)``, so its preconditioner may
        decrease.
      initial_accumulator: start of the running maximum, ``>= 0``.

    Returns:
      A transformation of ``PrimalDual`` trees, one gradient per step.

    Raises:
      ValueError: for a concrete number out of range or an unknown convention.

    Example:
      >>> from onesided_jax import amsgrad
      >>> tx = amsgrad(1e-3, 1e-3, b1=0.0, b2=0.99, eps=1e-3)

    References:
      Reddi et al., `On the Convergence of Adam and Beyond <https://arxiv.org/abs/1904.09237>`_,
      2018.
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        initial_accumulator=initial_accumulator,
    )
    check_choice("convention", convention, CONVENTIONS)

    def player(rate):
        return optax.chain(
            scale_by_amsgrad(b1, b2, eps, convention, initial_accumulator),
            optax.scale_by_learning_rate(rate),
        )

    return descent_ascent(player(primal_learning_rate), player(dual_learning_rate))


def scale_by_amsgrad(
    b1: Any, b2: Any, eps: Any, convention: Convention, initial_accumulator: Any
) -> optax.GradientTransformation:
    """``optax.scale_by_amsgrad`` with three conventions, an initial maximum and wide moments."""
    correct = convention == "optax"
    inner: Any = optax.scale_by_amsgrad(
        b1, b2, eps, bias_correction_mu=correct, bias_correction_nu=correct
    )

    def init(params):
        nu_max = single_full(params, initial_accumulator)
        return inner.init(single_zeros(params))._replace(nu_max=nu_max)

    def update(updates, state, params=None):
        del params
        updates, state = inner.update(at_least_single(updates), state)
        if convention == "torch":
            h = preconditioner(state.count, state.nu_max, eps, b2, convention)
            c1 = 1 - b1**state.count
            updates = jax.tree.map(lambda m, h: m / jnp.asarray(c1, m.dtype) / h, state.mu, h)
        return updates, state

    return optax.GradientTransformation(init, update)
