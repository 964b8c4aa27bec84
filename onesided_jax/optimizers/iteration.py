"""Describes an optimizer's step in the form that the theorems use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.optimizers._second_moment import preconditioner
from onesided_jax.optimizers._trees import rate_at
from onesided_jax.players import PrimalDual

__all__ = [
    "Iteration",
    "Method",
    "amsgrad_floor",
    "amsgrad_preconditioner",
    "displacement",
    "float64",
    "rates_at",
    "sgd_method",
]

Settings = Mapping[str, Any]  # an optimizer's keyword arguments, defaults included


class Iteration(NamedTuple):
    r"""One iteration in the form of the theorems; arrays in JAX's widest float.

    .. math:: \tilde z_t = z_t - \gamma_t p_t / h_t, \qquad z_{t+1} = z_t - \eta_t q_t / h_t

    Attributes:
      preconditioner: :math:`h_t`, shaped like the players.
      rates: :math:`\gamma_t` of both players; without extrapolation :math:`\eta_t`.
      displacement: :math:`\tilde z_t - z_t`, shaped like the players; ``None`` without
        extrapolation.
      update_scale: :math:`\eta_t / \gamma_t` of both players.
      momentum: of the primal's update, the primal's extrapolation and the dual's update.
      dual_extrapolates: whether the dual's displacement is used.
    """

    preconditioner: PrimalDual
    rates: PrimalDual
    displacement: PrimalDual | None = None
    update_scale: tuple[Any, Any] = (1, 1)
    momentum: tuple[Any, Any, Any] = (0, 0, 0)
    dual_extrapolates: bool = True


class Method(NamedTuple):
    """How a certificate follows an optimizer.

    Attributes:
      kind: "extragradient", "plain" (no extrapolation) or "past" (extrapolation from the past).
      floor: ``settings -> PrimalDual`` of lower bounds of the preconditioner.
      read: ``(opt_state, field, count, settings) -> Iteration``. Takes the state after the step,
        the field at its start and the number of earlier steps. A step of kind "past" ends one
        iteration and begins the next; this is the next one.
      update_momentum: name of the argument for the momentum of the primal's update, if there is
        one and a theorem about extragradient covers it.
    """

    kind: str
    floor: Callable[[Settings], PrimalDual]
    read: Callable[[Any, PrimalDual, Any, Settings], Iteration]
    update_momentum: str | None = None


def float64(tree: Any) -> Any:
    """Casts to JAX's widest float: float64, or float32 if x64 is off."""
    return jax.tree.map(lambda a: jnp.asarray(a, float), tree)


def rates_at(settings: Settings, count: Any) -> PrimalDual:
    """Both learning rates (numbers or schedules) after ``count`` iterations."""
    names = ("primal_learning_rate", "dual_learning_rate")
    return float64(PrimalDual(*(rate_at(settings[name], count) for name in names)))


def displacement(direction: PrimalDual, scale: PrimalDual, rates: PrimalDual) -> PrimalDual:
    """``-rate * direction / scale`` for both players."""
    players = zip(float64(direction), scale, rates, strict=True)
    return PrimalDual(*(jax.tree.map(lambda g, h, r=r: -r * g / h, g, h) for g, h, r in players))


def sgd_method(kind: str, update_scale: Callable[[Settings], Any] = lambda settings: 1) -> Method:
    """The `Method` of an optimizer without preconditioner."""

    def read(opt_state, field, count, settings):
        del opt_state
        rates = rates_at(settings, count)
        ones = jax.tree.map(lambda a: jnp.ones(a.shape, float), field)
        look = None if kind == "plain" else displacement(field, ones, rates)
        return Iteration(ones, rates, look, (update_scale(settings),) * 2)

    return Method(kind, lambda settings: float64(PrimalDual(1.0, 1.0)), read)


def amsgrad_floor(settings: Settings) -> PrimalDual:
    """Lower bounds of ``h``: ``sqrt(initial_accumulator) + eps``; ``eps`` if ``h`` may decrease."""
    start = jnp.sqrt(float64(settings.get("initial_accumulator", 0.0)))
    if settings.get("convention") == "torch":
        start = jnp.zeros_like(start)
    return PrimalDual(*(float64(eps) + start for eps in _epsilons(settings)))


def amsgrad_preconditioner(count: Any, nu_max: Any, settings: Settings) -> PrimalDual:
    """``h`` of both players, from their gradient counts and running maxima."""
    players = zip(count, nu_max, _epsilons(settings), strict=True)
    b2, convention = settings["b2"], settings["convention"]
    return PrimalDual(
        *(preconditioner(n, float64(part), eps, b2, convention) for n, part, eps in players)
    )


def _epsilons(settings: Settings) -> tuple[Any, Any]:
    eps, dual_eps = settings["eps"], settings.get("dual_eps")
    return eps, eps if dual_eps is None else dual_eps
