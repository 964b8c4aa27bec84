"""Every optimizer of two learning rates by name, with facts for sweeps and analysis.

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
      looks_ahead: whether ``update`` evaluates the field at further points and needs ``grad_fn``.
      slows_down: ``settings -> bool`` or an array of bools: whether the optimizer itself lowers the
        dual's rate during the run. Then the gradient may fall for this reason alone.
      method: how a certificate follows the optimizer; ``None`` if no theorem covers it.
    """

    looks_ahead: bool = False
    slows_down: Callable[[Mapping[str, Any]], Any] = lambda settings: False
    method: Method | None = None


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {}
"""Name to ``factory(primal_learning_rate, dual_learning_rate, **hyperparameters)``."""

FACTS: dict[str, Facts] = {}
"""Name to :class:`Facts`."""


def register(**facts: Any) -> Callable[[Factory], Factory]:
    """Registers a factory under its own name; ``facts`` are the fields of :class:`Facts`."""

    def enter(factory: Factory) -> Factory:
        name = factory.__name__
        OPTIMIZERS[name], FACTS[name] = factory, Facts(**facts)
        return factory

    return enter


def defaults(name: str) -> dict[str, Any]:
    """An optimizer's arguments and defaults; the two rates have ``inspect.Parameter.empty``.

    Example:
      >>> from onesided_jax.optimizers.registry import defaults
      >>> defaults("amsgrad_eg_drd")["power"]
      0.5
    """
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}
