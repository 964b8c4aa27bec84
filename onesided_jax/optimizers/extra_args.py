"""Passes extra arguments such as ``grad_fn`` to transformations that accept them."""

from __future__ import annotations

import inspect
from typing import Any

import optax

__all__ = ["with_extra_args"]


def with_extra_args(made: Any) -> optax.GradientTransformationExtraArgs:
    """``optax.with_extra_args_support`` that decides by the parameters of ``update``.

    optax decides by type. So it drops ``grad_fn`` for ``MultiSteps``, and for a plain pair whose
    ``update`` takes ``grad_fn`` or ``**extra_args``.
    """
    if isinstance(made, optax.GradientTransformationExtraArgs):
        return made
    parameters = inspect.signature(made.update).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        return optax.GradientTransformationExtraArgs(made.init, made.update)
    if "grad_fn" not in parameters:
        return optax.with_extra_args_support(made)

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        del extra_args
        return made.update(updates, state, params, grad_fn=grad_fn)

    return optax.GradientTransformationExtraArgs(made.init, update)
