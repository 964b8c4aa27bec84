"""Checks whether a network distinguishes training from evaluation, by the traced programs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

__all__ = ["Traced", "boolean_switches", "check_modes", "trace"]


class Traced(NamedTuple):
    """A traced application of a network.

    Attributes:
      program: text of the jaxpr, without the addresses of Python objects.
      constants: arrays that the jaxpr closes over.
      changes_state: whether a leaf of the new state is not the input leaf.
    """

    program: str
    constants: list[Any]
    changes_state: bool

    def computes_like(self, other: Traced) -> bool:
        """Whether both are the same program with the same constants."""
        return (
            self.program == other.program
            and len(self.constants) == len(other.constants)
            and all(map(_equal, self.constants, other.constants))
        )


def trace(application: Callable[..., Any], state: Any, *arguments: Any) -> Traced:
    """Traces ``application(state, *arguments) -> (state, outputs)`` on abstract values."""
    closed = jax.make_jaxpr(application)(state, *arguments)
    size = len(jax.tree.leaves(state))
    pairs = zip(closed.jaxpr.invars[:size], closed.jaxpr.outvars[:size])
    program = re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))
    return Traced(program, list(closed.consts), any(a is not b for a, b in pairs))


def _equal(a: Any, b: Any) -> bool:
    """Whether two constants are equal; tracers and random keys count as equal."""
    if isinstance(a, Tracer) or jax.dtypes.issubdtype(a.dtype, jax.dtypes.extended):
        return True
    return np.array_equal(a, b)


def boolean_switches(defaults: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The other values of options that default to True, False or None."""
    for name, default in defaults.items():
        if default is None or isinstance(default, bool):
            yield from ((name, value) for value in (True, False) if value is not default)


def call_defaults(module_type: type) -> dict[str, Any]:
    """Defaults of the arguments of ``__call__`` other than ``train``."""
    parameters = inspect.signature(module_type.__call__).parameters
    return {name: p.default for name, p in parameters.items() if name != "train"}


def check_modes(
    name: str,
    modes: tuple[Traced, Traced],
    layers: set[str],
    state_names: str,
    switched: Callable[[], list[str]],
    remedy: str,
) -> None:
    """Raises ``ValueError`` for a network that has modes but computes the same in both.

    Args:
      name: of the module.
      modes: the network traced in training and in evaluation.
      layers: types of the module's layers that have modes (BatchNorm, Dropout).
      state_names: names of the module's state.
      switched: traces the module with each option switched; returns the options that decide
        whether it changes its state or draws random numbers.
      remedy: how the module gets its mode.
    """
    training, evaluation = modes
    if not training.computes_like(evaluation):
        return
    options = switched()
    if training.changes_state:
        evidence = f"training changes its state ({state_names})"
    elif layers:
        evidence = f"it has {' and '.join(sorted(layers))}"
    elif options:
        evidence = f"{' and '.join(options)} decides whether its state changes"
    else:
        return
    hint = f", not by {' or '.join(options)}" if options else ""
    raise ValueError(
        f"{name} computes the same in training and in evaluation, yet {evidence}. "
        f"{remedy}{hint}. If the network has no modes, write it as a Network(init, apply)."
    )
