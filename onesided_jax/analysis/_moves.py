"""How a step of each optimizer reads as an iteration of the theory: metric, look, step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.analysis._bounds import Move
from onesided_jax.optimizers import OPTIMIZERS, AmsgradEgState, PastAmsgradEgState
from onesided_jax.optimizers._second_moment import preconditioner
from onesided_jax.optimizers._trees import rate_at
from onesided_jax.optimizers.schedules import dual_rate_decay
from onesided_jax.players import PrimalDual
from onesided_jax.runs._words import nearest

__all__ = ["METHODS", "Method", "check_itself", "find_method", "read_settings"]


class Method(NamedTuple):
    """How to read one optimizer.

    Attributes:
      kind: "extragradient", "plain" or "past".
      delta: ``settings -> PrimalDual`` of lower bounds of the preconditioner.
      remember: ``players -> memory`` before the first step.
      move: ``(memory, view, settings) -> (memory, Move)``.
    """

    kind: str
    delta: Callable[[Mapping[str, Any]], PrimalDual]
    remember: Callable[[PrimalDual], Any]
    move: Callable[..., tuple[Any, Move]]


def find_method(name: str) -> Method:
    """The method of an optimizer's name; an error names those that theorems speak of."""
    if name not in METHODS:
        raise ValueError(
            f"method={name!r}: expected one of {sorted(METHODS)}, the optimizers whose metric a "
            f"certificate can follow{nearest(name, METHODS)}"
        )
    return METHODS[name]


def read_settings(
    name: str, options: Mapping[str, Any] | Callable | None, hyperparameters: Mapping[str, Any]
) -> dict[str, Any]:
    """An optimizer's keyword arguments, with its defaults."""
    parameters = inspect.signature(OPTIMIZERS[name]).parameters
    given = {key: v for key, v in hyperparameters.items() if key in parameters}
    if callable(options):
        given = dict(options(hyperparameters))
    elif options:
        given = {**given, **options}
    for key in given:
        if key not in parameters:
            hint = nearest(key, parameters)
            raise ValueError(f"options: {key!r} is no argument of {name}{hint}")
    settings = {}
    for key, parameter in parameters.items():
        value = given.get(key, parameter.default)
        if value is inspect.Parameter.empty:
            raise ValueError(
                f"the certificate of {name} needs {key}: name the swept hyperparameter {key!r}, or "
                f"give it in options, as {{{key!r}: ...}} or lambda h: {{{key!r}: h[...]}}"
            )
        settings[key] = value
    return settings


def _float64(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)


def _move(view, scale, rates, shrink=(1, 1), look=None, b1=(0, 0, 0)) -> Move:
    """``scale`` and ``rates`` are the preconditioner and the rates of the extrapolation."""
    rates, before = _float64(rates), _float64(view.before)
    metric = PrimalDual(
        *(
            jax.tree.map(lambda a, r=r, c=c: a / (r * c), h)
            for h, r, c in zip(scale, rates, shrink, strict=True)
        )
    )
    return Move(
        active=True,
        before=before,
        look=jax.tree.map(jnp.zeros_like, before) if look is None else look,
        step=_float64(view.updates),
        metric=metric,
        rates=rates,
        shrink=PrimalDual(*shrink),
        b1=b1,
        dual_looks=True,
        exact=True,
    )


def _rates(settings: Mapping[str, Any], count: Any) -> PrimalDual:
    return PrimalDual(
        *(rate_at(settings[f"{player}_learning_rate"], count) for player in PrimalDual._fields)
    )


def _look(direction: PrimalDual, scale: PrimalDual, rates: PrimalDual) -> PrimalDual:
    return PrimalDual(
        *(
            jax.tree.map(lambda g, h, r=r: -r * g / h, *parts)
            for *parts, r in zip(direction, scale, _float64(rates), strict=True)
        )
    )


# --- AMSGrad extragradient


def _floor(settings: Mapping[str, Any]) -> PrimalDual:
    """``h >= eps``, and ``h >= sqrt(initial_accumulator) + eps`` where ``h`` never decreases."""
    start = jnp.sqrt(_float64(settings.get("initial_accumulator", 0.0)))
    if settings.get("convention") == "torch":
        start = jnp.zeros_like(start)
    return PrimalDual(*(_float64(eps) + start for eps in _epsilons(settings)))


def _epsilons(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    eps, dual_eps = settings["eps"], settings.get("dual_eps")
    return eps, eps if dual_eps is None else dual_eps


def _amsgrad_scale(count: PrimalDual, nu_max: PrimalDual, settings: Mapping) -> PrimalDual:
    b2, convention = settings["b2"], settings["convention"]
    return PrimalDual(
        *(
            preconditioner(n, _float64(part), eps, b2, convention)
            for n, part, eps in zip(count, nu_max, _epsilons(settings), strict=True)
        )
    )


def _amsgrad_eg(memory, view, settings):
    state: AmsgradEgState = view.opt_state
    count = view.step - 1
    scaled = shorten = settings.get("update_scale", 1)
    dual_rate = dual_look_rate = settings["dual_learning_rate"]
    if "power" in settings:
        dual_look_rate = dual_rate_decay(dual_rate, settings["power"])
        dual_rate = dual_look_rate if settings["decay"] == "both" else dual_rate
    elif settings.get("dual_extrapolation_learning_rate") is not None:
        dual_look_rate = settings["dual_extrapolation_learning_rate"]
    rates = PrimalDual(
        rate_at(settings["primal_learning_rate"], count), rate_at(dual_look_rate, count)
    )
    if dual_rate is not dual_look_rate:
        scaled = shorten * rate_at(dual_rate, count) / rates.dual
    b1 = tuple(
        rate_at(settings.get(name, 0), count)
        for name in ("b1_update", "b1_extrapolation", "dual_b1")
    )
    direction = _float64(view.field)
    if jax.tree.leaves(state.momentum.extrapolation):
        direction = direction._replace(primal=_float64(state.momentum.extrapolation.primal))
    scale = _amsgrad_scale(state.count, state.nu_max, settings)
    look = _look(direction, scale, rates)
    looks = settings["dual_extrapolation"]
    if not looks:
        look = look._replace(dual=jax.tree.map(jnp.zeros_like, look.dual))
    move = _move(view, scale, rates, (shorten, scaled), look, b1)
    return memory, move._replace(dual_looks=looks)


def _amsgrad_xeg(memory, view, settings):
    return _amsgrad_eg(memory, view, {**settings, "dual_extrapolation": False})


# --- from the past


def _remember_past(players):
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.float64), players)
    return zeros, jax.tree.map(jnp.ones_like, zeros)


def _past_amsgrad_eg(memory, view, settings):
    """A call ends the iteration that the call before began."""
    state: PastAmsgradEgState = view.opt_state
    displacement, scale = memory
    rates = _rates(settings, jnp.maximum(view.step - 2, 0))
    looked = _float64(state.displacement)
    step = jax.tree.map(lambda u, d, e: u + d - e, _float64(view.updates), displacement, looked)
    move = _move(view, scale, rates, look=displacement)._replace(
        active=view.step > 1,
        before=jax.tree.map(lambda a, d: a - d, _float64(view.before), displacement),
        step=step,
    )
    return (looked, _amsgrad_scale(state.count, state.nu_max, settings)), move


# --- without extrapolation, and without a preconditioner


def _plain_scale(view, settings, name):
    inner = {k: s.inner_state[0] for k, s in view.opt_state.inner_states.items()}
    states = [inner[player] for player in PrimalDual._fields]
    if name == "adam":
        correction = 1 - _float64(settings["b2"]) ** states[0].count
        return PrimalDual(
            *(
                jax.tree.map(
                    lambda v: jnp.sqrt(v / correction) + settings["eps"],
                    _float64(getattr(state.nu, player)),
                )
                for state, player in zip(states, PrimalDual._fields, strict=True)
            )
        )
    nu_max = PrimalDual(
        *(getattr(s.nu_max, player) for s, player in zip(states, PrimalDual._fields, strict=True))
    )
    return _amsgrad_scale(PrimalDual(*(s.count for s in states)), nu_max, settings)


def _plain(name):
    def move(memory, view, settings):
        scale = _plain_scale(view, settings, name)
        b1 = (settings["b1"], 0, settings["b1"])
        return memory, _move(view, scale, _rates(settings, view.step - 1), b1=b1)

    return move


def _sgd(looks):
    def move(memory, view, settings):
        rates = _rates(settings, view.step - 1)
        ones = jax.tree.map(lambda a: jnp.ones(a.shape, jnp.float64), view.before)
        look = _look(_float64(view.field), ones, rates) if looks else None
        return memory, _move(view, ones, rates, look=look)

    return move


def check_itself(name: str, settings: Mapping[str, Any], view: Any) -> None:
    """An error where the optimizer's state is not that of the method, made with these settings."""
    made = jax.eval_shape(lambda players: OPTIMIZERS[name](**settings).init(players), view.before)
    if jax.tree.structure(made) != jax.tree.structure(view.opt_state):
        raise ValueError(
            f"the certificate of {name} follows {name} itself, made with its options, but the "
            f"optimizer's state is a {type(view.opt_state).__name__} of another: take it out of "
            "chain and other wrappers, or record a Trajectory and pass that to certify"
        )


def _nothing(players):
    del players
    return ()


def _one(settings):
    del settings
    return PrimalDual(*_float64((1.0, 1.0)))


METHODS: dict[str, Method] = {
    "adam": Method("plain", _floor, _nothing, _plain("adam")),
    "amsgrad": Method("plain", _floor, _nothing, _plain("amsgrad")),
    "amsgrad_eg": Method("extragradient", _floor, _nothing, _amsgrad_eg),
    "amsgrad_eg_drd": Method("extragradient", _floor, _nothing, _amsgrad_eg),
    "amsgrad_xeg": Method("extragradient", _floor, _nothing, _amsgrad_xeg),
    "extra_sgd": Method("extragradient", _one, _nothing, _sgd(True)),
    "past_amsgrad_eg": Method("past", _floor, _remember_past, _past_amsgrad_eg),
    "sgda": Method("plain", _one, _nothing, _sgd(False)),
}
"""Optimizers whose metric a certificate can follow."""
