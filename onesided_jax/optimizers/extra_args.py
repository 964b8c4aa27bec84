"""Extra arguments such as ``grad_fn`` for whatever takes them."""

from __future__ import annotations

import inspect
from typing import Any

import optax

__all__ = ["with_extra_args"]


def with_extra_args(made: Any) -> optax.GradientTransformationExtraArgs:
    """``optax.with_extra_args_support`` that does not keep ``grad_fn`` from those who take it.

    optax goes by type, and drops all extra arguments for ``MultiSteps`` and for a plain pair whose
    ``update`` has ``grad_fn`` or ``**extra_args`` among its parameters. Here the parameters count.
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
