"""Running float64 sums over a run's iterations; every bound is computed from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.games import GameFacts
from onesided_jax.players import PrimalDual

__all__ = ["Known", "Move", "Sums", "add_move", "largest", "no_sums", "total"]


class Move(NamedTuple):
    """One iteration of a run, for any optimizer; leaves ``f64[...]`` like the players."""

    active: Any  # bool: False for a call that completes no iteration
    before: PrimalDual  # z_t
    look: PrimalDual  # z~_t - z_t; 0 without extrapolation
    step: PrimalDual  # z_{t+1} - z_t
    metric: PrimalDual  # M_t = H_t / eta_t, of the update
    rates: PrimalDual  # gamma_t of the extrapolation (without one, of the update), two scalars
    shrink: PrimalDual  # eta_t / gamma_t, two scalars
    b1: tuple[Any, Any, Any]  # momentum of the primal's update and extrapolation, dual's update
    dual_looks: Any  # bool: the dual extrapolates
    exact: Any  # bool: extrapolation and update followed the field itself


class Known(NamedTuple):
    """The constants of a run."""

    kind: str  # "extragradient", "plain" or "past"
    solution: PrimalDual  # (x*, y*); y* may be None
    delta: PrimalDual  # lower bounds of the two preconditioners
    facts: GameFacts
    radius: float | None  # bound on |x_i - x*_i| fixed before the run; None: measured
    independent: bool  # a step's two evaluations see independent minibatches
    objective: Callable[[PrimalDual], Any] | None  # players -> f; None leaves Theorem 5 out


class Sums(NamedTuple):
    """Sums over the iterations so far, float64 scalars or like the players; see docs/theory."""

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]  # iterations done, int32
    a0: Any  # sum of M (x^2 - x_+^2)
    s: Any  # sum of <q, x~>
    p: Any  # sum of ||p||^2 in the norm of the inverse metric
    q: Any  # sum of ||q - p||^2 in it
    gradient: Any  # vector sum of the primal's q
    low: PrimalDual  # smallest value of each coordinate so far
    high: PrimalDual  # largest value
    metric: PrimalDual  # the last M
    variation: PrimalDual  # positive variation of M; the last M if it never decreased
    squared: PrimalDual  # sum of gamma ||g||^2 in the norm of the inverse preconditioner
    rate: Any  # sum of the primal's extrapolation rates
    look: Any  # sum of gamma ||y~ - y||^2
    moved: Any  # sum of gamma ||y~_t - y~_{t-1}||^2
    distance: Any  # sum of ||x~ - x*||^2
    farthest: Any  # largest |x~_i - x*_i|
    steepest: Any  # largest |g_i| at z or z~
    b1: Any  # sum of the update's momentum
    b1_squared: Any  # sum of gamma b1^2
    work: Any  # sum of f(x_t, y_t) - f(x_{t+1}, y_t)
    last_dual: Any  # y~_{t-1}
    last_update: Any  # q_{t-1} of the primal, or () where its update carries no momentum
    minty: Any  # sum of <g~, x~ - x*>, g~ the primal gradient at z~


def no_sums(players: PrimalDual, momentum: bool) -> Sums:
    """The sums before the first iteration; ``momentum``: the primal's update may have momentum."""
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.float64), players)
    here = jax.tree.map(lambda a: a.astype(jnp.float64), players)
    zero: Any = jnp.zeros((), jnp.float64)
    return Sums(*(zero for _ in Sums._fields))._replace(
        count=jnp.zeros((), jnp.int32),
        gradient=zeros.primal,
        low=here,
        high=here,
        metric=zeros,
        variation=zeros,
        squared=PrimalDual(zero, zero),
        last_dual=here.dual,
        last_update=zeros.primal if momentum else (),
    )


def add_move(sums: Sums, move: Move, known: Known) -> Sums:
    """The sums with one more iteration."""
    x, metric = move.before.primal, move.metric
    middle, after = (jax.tree.map(jnp.add, move.before, d) for d in (move.look, move.step))
    p, q = (jax.tree.map(lambda m, d: -m * d, metric, d) for d in (move.look, move.step))
    gap = jax.tree.map(jnp.subtract, q.primal, p.primal)
    gamma, b1 = move.rates.primal, move.b1[0]
    squared, slopes = _gradients(sums, move, known, p, q)
    away = jax.tree.map(jnp.subtract, middle.primal, known.solution.primal)
    work = sums.work
    if known.objective is not None:
        stepped = PrimalDual(after.primal, move.before.dual)
        work = work + known.objective(move.before) - known.objective(stepped)
    return sums._replace(
        count=sums.count + 1,
        a0=sums.a0 + total(lambda q, a, b: q * (a + b), q.primal, x, after.primal),
        s=sums.s + total(jnp.multiply, q.primal, middle.primal),
        p=sums.p + _squared_norm(p.primal, metric.primal),
        q=sums.q + _squared_norm(gap, metric.primal),
        gradient=jax.tree.map(jnp.add, sums.gradient, q.primal),
        low=jax.tree.map(jnp.minimum, sums.low, move.before),
        high=jax.tree.map(jnp.maximum, sums.high, move.before),
        metric=metric,
        variation=jax.tree.map(
            lambda v, new, old: v + jnp.maximum(new - old, 0), sums.variation, metric, sums.metric
        ),
        squared=jax.tree.map(jnp.add, sums.squared, squared),
        rate=sums.rate + gamma,
        look=sums.look + gamma * total(lambda d: d * d, move.look.dual),
        moved=sums.moved + gamma * total(lambda a, b: (a - b) ** 2, middle.dual, sums.last_dual),
        distance=sums.distance + total(lambda a: a * a, away),
        farthest=jnp.maximum(sums.farthest, largest(away)),
        steepest=jnp.maximum(sums.steepest, largest(slopes)),
        b1=sums.b1 + b1,
        b1_squared=sums.b1_squared + gamma * b1 * b1,
        work=work,
        minty=sums.minty + total(jnp.multiply, slopes[-1], away),
        last_dual=middle.dual,
        last_update=q.primal if jax.tree.leaves(sums.last_update) else (),
    )


def _gradients(
    sums: Sums, move: Move, known: Known, p: PrimalDual, q: PrimalDual
) -> tuple[PrimalDual, list[Any]]:
    """``gamma ||g||^2`` of both players, and the primal gradients that the iteration followed."""
    if known.kind == "plain":
        return PrimalDual(*map(_squared_norm, q, move.metric)), [q.primal]
    norms = map(_squared_norm, p, move.metric)
    squared = PrimalDual(*(r * norm for r, norm in zip(move.shrink, norms, strict=True)))
    ahead = q.primal
    if jax.tree.leaves(sums.last_update):  # remove the momentum
        b1 = move.b1[0]
        ahead = jax.tree.map(lambda m, last: (m - b1 * last) / (1 - b1), ahead, sums.last_update)
    return squared, [jax.tree.map(lambda a: a * move.shrink.primal, p.primal), ahead]


def _squared_norm(vector: Any, metric: Any) -> Any:
    """``||vector||^2`` in the norm of the inverse metric."""
    return total(lambda a, m: a * a / m, vector, metric)


def total(function: Callable[..., Any], *trees: Any) -> Any:
    """Sum of all entries of ``function(*leaves)``."""
    parts = jax.tree.leaves(jax.tree.map(lambda *a: jnp.sum(function(*a)), *trees))
    return sum(parts, jnp.zeros((), jnp.float64))


def largest(tree: Any) -> Any:
    """Largest absolute value of an entry; 0 if there is none."""
    parts = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(parts)) if parts else jnp.zeros((), jnp.float64)
