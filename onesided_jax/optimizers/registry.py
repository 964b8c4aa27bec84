"""Every optimizer of two learning rates by name, and what other rooms must know of each.

An optimizer registers itself in its own file::

    @register(looks_ahead=True, method=sgd_method("extragradient"))
    def extra_sgd(primal_learning_rate, dual_learning_rate): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import optax

from onesided_jax.optimizers.iteration import Method

__all__ = ["FACTS", "OPTIMIZERS", "Facts", "defaults", "register"]

Factory = TypeVar("Factory", bound=Callable[..., optax.GradientTransformationExtraArgs])


class Facts(NamedTuple):
    """What sweeps, analysis and certificates must know of an optimizer.

    Attributes:
      looks_ahead: whether ``update`` evaluates the field at other players and needs ``grad_fn``.
      slows_down: ``settings -> bool``, or an array of them: whether the dual's rate falls along the
        run by the optimizer's own rule, so that a falling gradient may be its doing.
      method: how a certificate follows it; ``None`` where no theorem speaks of it.
    """

    looks_ahead: bool = False
    slows_down: Callable[[Mapping[str, Any]], Any] = lambda settings: False
    method: Method | None = None


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {}
"""By name: ``factory(primal_learning_rate, dual_learning_rate, **hyperparameters)``."""

FACTS: dict[str, Facts] = {}
"""By the same names: :class:`Facts`."""


def register(**facts: Any) -> Callable[[Factory], Factory]:
    """Enters a factory under its own name; ``facts`` are the fields of :class:`Facts`."""

    def enter(factory: Factory) -> Factory:
        name = factory.__name__
        OPTIMIZERS[name], FACTS[name] = factory, Facts(**facts)
        return factory

    return enter


def defaults(name: str) -> dict[str, Any]:
    """An optimizer's arguments and their defaults, ``inspect.Parameter.empty`` for the two rates.

    Example:
      >>> from onesided_jax.optimizers.registry import defaults
      >>> defaults("amsgrad_eg_drd")["power"]
      0.5
    """
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}
