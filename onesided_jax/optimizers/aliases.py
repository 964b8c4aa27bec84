"""Two-rate aliases of the classics, and the registry of all optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import optax

from onesided_jax.optimizers._checks import check_choice, check_number
from onesided_jax.optimizers.amsgrad_eg import amsgrad_eg, amsgrad_eg_drd, amsgrad_xeg
from onesided_jax.optimizers.descent_ascent import descent_ascent
from onesided_jax.optimizers.extragradient import extragradient

__all__ = ["OPTIMIZERS", "adam", "amsgrad", "extra_adam"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


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
      A transformation of ``PrimalDual`` trees, one gradient per step.

    Raises:
      ValueError: for a concrete number out of range, or players that are not a ``PrimalDual``.

    Example:
      >>> from onesided_jax import adam
      >>> tx = adam(2e-4, 2e-4, b1=0.5)

    References:
      Kingma & Ba, `Adam <https://arxiv.org/abs/1412.6980>`_, 2015.
    """
    _check(primal_learning_rate, dual_learning_rate, b1, b2, eps)
    return descent_ascent(
        optax.adam(primal_learning_rate, b1, b2, eps), optax.adam(dual_learning_rate, b1, b2, eps)
    )


def amsgrad(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    convention: Literal["optax", "classic"] = "optax",
) -> optax.GradientTransformationExtraArgs:
    """Simultaneous AMSGrad: Adam whose second moment never decreases.

    Args:
      primal_learning_rate: as in :func:`adam`.
      dual_learning_rate: as in :func:`adam`.
      b1: decay of the first moment in ``[0, 1)``.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      convention: ``"optax"`` bias-corrects both moments before the maximum (as ``optax.amsgrad``);
        ``"classic"`` corrects nothing (Reddi et al.).

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
    _check(primal_learning_rate, dual_learning_rate, b1, b2, eps)
    check_choice("convention", convention, ("optax", "classic"))
    correct = convention == "optax"

    def player(rate):
        return optax.chain(
            optax.scale_by_amsgrad(
                b1, b2, eps, bias_correction_mu=correct, bias_correction_nu=correct
            ),
            optax.scale_by_learning_rate(rate),
        )

    return descent_ascent(player(primal_learning_rate), player(dual_learning_rate))


def extra_adam(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    opaque_mode: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """ExtraAdam (Gidel et al.): extragradient whose one Adam state advances at both half-steps.

    ``extragradient(adam(...), extrapolation_state="carried")``, except that a schedule follows
    the iteration, not the half-step.

    Args:
      primal_learning_rate: as in :func:`adam`.
      dual_learning_rate: as in :func:`adam`.
      b1: decay of the first moment in ``[0, 1)``; on bilinear games both players carrying more
        than about 0.41 is unstable for every small rate.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      opaque_mode: see :func:`extragradient`.

    Returns:
      A transformation of ``PrimalDual`` trees; ``update`` needs ``grad_fn`` in opaque mode.

    Raises:
      ValueError: for a concrete number out of range; see also :func:`extragradient`.

    Example:
      >>> from onesided_jax import extra_adam
      >>> tx = extra_adam(2e-4, 2e-4, b1=0.0)

    References:
      Gidel et al., `A Variational Inequality Perspective on Generative Adversarial Networks
      <https://arxiv.org/abs/1802.10551>`_, 2019, Algorithm 4.
    """
    base = adam(
        _per_half_step(primal_learning_rate),
        _per_half_step(dual_learning_rate),
        b1=b1,
        b2=b2,
        eps=eps,
    )
    return extragradient(base, extrapolation_state="carried", opaque_mode=opaque_mode)


def _per_half_step(rate: Rate) -> Rate:
    """A schedule of the iteration for a state that counts half-steps, two to the iteration."""
    return (lambda count: rate(count // 2)) if callable(rate) else rate


def _check(primal_learning_rate, dual_learning_rate, b1, b2, eps) -> None:
    check_number("primal_learning_rate", primal_learning_rate)
    check_number("dual_learning_rate", dual_learning_rate)
    check_number("b1", b1, high=1.0)
    check_number("b2", b2, high=1.0)
    check_number("eps", eps)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "adam": adam,
    "amsgrad": amsgrad,
    "amsgrad_eg": amsgrad_eg,
    "amsgrad_eg_drd": amsgrad_eg_drd,
    "amsgrad_xeg": amsgrad_xeg,
    "extra_adam": extra_adam,
}
"""By name: ``factory(primal_learning_rate, dual_learning_rate, **hyperparameters)``."""
