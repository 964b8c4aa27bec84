"""AMSGrad extragradient with dual rate decay."""

from __future__ import annotations

from typing import Any, Literal

import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._second_moment import Convention
from onesided_jax.optimizers.amsgrad_eg import Rate, amsgrad_eg, read_iteration
from onesided_jax.optimizers.iteration import Method, amsgrad_floor
from onesided_jax.optimizers.registry import register
from onesided_jax.optimizers.schedules import dual_rate_decay

__all__ = ["amsgrad_eg_drd"]


def _read(opt_state, field, count, settings):
    rates = _decayed(settings["dual_learning_rate"], settings["power"], settings["decay"])
    return read_iteration(opt_state, field, count, {**settings, **rates})


def _decayed(rate: Any, power: Any, decay: str) -> dict[str, Any]:
    """The dual's decayed rates, as arguments of :func:`amsgrad_eg`."""
    decayed = dual_rate_decay(rate, power)
    return {
        "dual_learning_rate": decayed if decay == "both" else rate,
        "dual_extrapolation_learning_rate": decayed,
    }


@register(
    looks_ahead=True,
    slows_down=lambda settings: (settings["decay"] == "both") & (settings["power"] != 0),
    method=Method("extragradient", amsgrad_floor, _read),
)
def amsgrad_eg_drd(
    primal_learning_rate: Rate,
    dual_learning_rate: Any,
    *,
    power: Any = 0.5,
    decay: Literal["both", "extrapolation"] = "both",
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    dual_extrapolation: bool = True,
    convention: Convention = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad extragradient with dual rate decay, :math:`\eta_{y,t} = \eta_y t^{-p}`.

    Under dual rate decay a falling primal gradient is no evidence for the one-sided MVI, because a
    slowing dual freezes the game. For any smooth ``f`` bounded below in ``x`` the gradient falls
    like :math:`t^{-p}` (our Theorem 5, docs/theory).

    Args:
      primal_learning_rate: as in :func:`amsgrad_eg`.
      dual_learning_rate: the dual's rate at the first iteration; not a schedule.
      power: exponent ``p >= 0`` of :func:`dual_rate_decay`.
      decay: ``"both"`` decays the rates of both half-steps of the dual; ``"extrapolation"`` decays
        the extrapolation's only, with the same guarantee (our Theorem 2).
      b2: as in :func:`amsgrad_eg`; so are the arguments below.
      eps: added outside the root.
      dual_eps: ``eps`` for the dual; ``None`` takes ``eps``.
      dual_extrapolation: ``False`` for x-only extragradient.
      convention: ``"optax"``, ``"classic"`` or ``"torch"``.
      initial_accumulator: start of the running maximum.

    Returns:
      The transformation; see :func:`amsgrad_eg`, also for errors.

    Raises:
      ValueError: for an unknown ``decay`` or a schedule as dual rate.

    Example:
      >>> from onesided_jax import amsgrad_eg_drd
      >>> tx = amsgrad_eg_drd(1e-3, 1e-3, power=0.25)
    """
    check_choice("decay", decay, ("both", "extrapolation"))
    if callable(dual_learning_rate):
        raise ValueError(
            "dual_learning_rate: expected a number, got a schedule; amsgrad_eg_drd decays the rate "
            "itself, so pass schedules to amsgrad_eg"
        )
    check_hyperparameters(dual_learning_rate=dual_learning_rate)
    return amsgrad_eg(
        primal_learning_rate,
        **_decayed(dual_learning_rate, power, decay),
        b2=b2,
        eps=eps,
        dual_eps=dual_eps,
        dual_extrapolation=dual_extrapolation,
        convention=convention,
        initial_accumulator=initial_accumulator,
    )
