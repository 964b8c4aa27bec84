"""Converts a step of a sweep into an iteration of the theory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from onesided_jax.errors import nearest
from onesided_jax.optimizers import FACTS, OPTIMIZERS
from onesided_jax.optimizers.iteration import Iteration, Method, float64
from onesided_jax.optimizers.registry import defaults
from onesided_jax.players import PrimalDual
from onesided_jax.theory.sums import Move

__all__ = [
    "Options",
    "check_optimizer",
    "find_method",
    "first_memory",
    "may_carry_momentum",
    "next_move",
    "read_settings",
]

Options = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]] | None


def find_method(name: str) -> Method:
    """The `Method` of an optimizer's name; an error lists the valid names."""
    method = FACTS[name].method if name in FACTS else None
    if method is None:
        names = sorted(name for name, facts in FACTS.items() if facts.method is not None)
        raise ValueError(
            f"method={name!r}: expected one of {names}, which a certificate can "
            f"follow{nearest(name, names)}"
        )
    return method


def read_settings(
    name: str, options: Options, hyperparameters: Mapping[str, Any]
) -> dict[str, Any]:
    """An optimizer's keyword arguments, defaults included.

    Args:
      name: a key of ``OPTIMIZERS``.
      options: arguments beside the swept hyperparameters of the same names, or a function
        ``hyperparameters -> all arguments``.
      hyperparameters: those of one run; names that are no arguments are ignored.

    Raises:
      ValueError: for an option that is no argument, or a missing learning rate.
    """
    settings = defaults(name)
    if callable(options):
        given = options(hyperparameters)
    else:
        swept = {key: value for key, value in hyperparameters.items() if key in settings}
        given = {**swept, **(options or {})}
    for key in given:
        if key not in settings:
            hint = nearest(key, settings)
            raise ValueError(f"options: {key!r} is no argument of {name}{hint}")
    settings |= given
    for key, value in settings.items():
        if value is inspect.Parameter.empty:
            raise ValueError(
                f"the certificate of {name} needs {key}: name the swept hyperparameter {key!r}, or "
                f"give it in options, as {{{key!r}: ...}} or lambda h: {{{key!r}: h[...]}}"
            )
    return settings


def may_carry_momentum(method: Method, options: Options) -> bool:
    """Whether the primal's update may have momentum: not if its argument is the number 0."""
    if method.update_momentum is None:
        return False
    b1 = None if callable(options) else (options or {}).get(method.update_momentum)
    return not (isinstance(b1, (int, float)) and b1 == 0)


def check_optimizer(name: str, settings: Mapping[str, Any], view: Any) -> None:
    """Raises ``ValueError`` unless the state is that of ``name`` made with these settings."""
    made = jax.eval_shape(lambda players: OPTIMIZERS[name](**settings).init(players), view.before)
    if jax.tree.structure(made) != jax.tree.structure(view.opt_state):
        raise ValueError(
            f"the certificate of {name} follows {name} itself, made with its options, but the "
            f"optimizer's state is a {type(view.opt_state).__name__} of another structure: take it "
            "out of chain and other wrappers, or record a Trajectory and pass that to certify"
        )


def first_memory(method: Method, players: PrimalDual) -> Any:
    """The memory of :func:`next_move` before the first step."""
    if method.kind != "past":
        return ()
    ones = jax.tree.map(lambda a: jnp.ones(a.shape, jnp.float64), players)
    return ones, float64(PrimalDual(1.0, 1.0)), jax.tree.map(jnp.zeros_like, ones)


def next_move(
    method: Method, memory: Any, view: Any, settings: Mapping[str, Any]
) -> tuple[Any, Move]:
    """The memory for the next step, and the iteration that this step completes.

    Args:
      method: of the optimizer.
      memory: from the previous step.
      view: the sweep's ``StepView``.
      settings: the optimizer's arguments.
    """
    read = method.read(view.opt_state, view.field, view.step - 1, settings)
    before, updates = float64(view.before), float64(view.updates)
    if method.kind != "past":
        return memory, _as_move(read, before, updates)
    # This step ends the iteration that the previous step began; the params are its midpoint.
    began = Iteration(*memory)
    iterate = jax.tree.map(jnp.subtract, before, began.displacement)
    step = jax.tree.map(lambda u, d, e: u + d - e, updates, began.displacement, read.displacement)
    memory = (read.preconditioner, read.rates, read.displacement)
    return memory, _as_move(began, iterate, step)._replace(active=view.step > 1)


def _as_move(read: Iteration, before: PrimalDual, step: PrimalDual) -> Move:
    """Combines an iteration with its starting point and its step."""
    players = zip(read.preconditioner, read.rates, read.update_scale, strict=True)
    look = read.displacement
    return Move(
        active=True,
        before=before,
        look=jax.tree.map(jnp.zeros_like, before) if look is None else look,
        step=step,
        metric=PrimalDual(
            *(jax.tree.map(lambda a, r=r, c=c: a / (r * c), h) for h, r, c in players)
        ),
        rates=read.rates,
        shrink=PrimalDual(*read.update_scale),
        b1=read.momentum,
        dual_looks=read.dual_extrapolates,
        exact=True,
    )
