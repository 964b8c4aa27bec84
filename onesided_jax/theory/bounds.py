"""The theorems' bounds and premises, checked after every iteration."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.players import PrimalDual
from onesided_jax.theory.sums import Known, Move, Sums, add_move, largest, no_sums, total

__all__ = ["BOUNDS", "PREMISES", "ROUNDING", "Progress", "advance", "start"]

ROUNDING = 1e-9  # relative slack, because C1 is an equality on the carousel's ring


class Progress(NamedTuple):
    """State of a certificate during a run.

    Attributes:
      sums: the running sums.
      lhs: left sides at this step, one per entry of ``BOUNDS``.
      rhs: right sides.
      worst: the largest ratio so far.
      first: the first step with ``lhs > rhs``, 0 if none.
      failed: the first step at which each of ``PREMISES`` failed, 0 if none.
    """

    sums: Sums
    lhs: Any
    rhs: Any
    worst: Any
    first: Any
    failed: Any


PREMISES = {
    "extragradient": "the theorem is about extragradient",
    "plain": "the theorem is about methods without extrapolation",
    "past": "the theorem is about extrapolation from the past",
    "no_past": "the theorem is not about extrapolation from the past",
    "finite": "a sum is not finite",
    "exact": "the steps do not follow the field itself (check for clipping, weight decay, "
    "momentum, or another method, rate or option than named)",
    "deterministic": "the game is stochastic",
    "independent": "both evaluations of a step see the same minibatch",
    "one_sided_mvi": "the one-sided MVI does not hold along the run",
    "mvi": "the game has no MVI",
    "star": "the game is not star-cocoercive on the primal side",
    "strong": "the one-sided MVI is not strong",
    "mean_minty": "the game has no one-sided MVI in the mean",
    "box": "the run left the box on which the constants hold",
    "radius": "the iterates left the radius given",
    "step": "the step is too large: needs rate <= delta / (sqrt(2) L_x)",
    "half_step": "the step is too large: needs rate <= delta / (2 L_x)",
    "past_step": "the step is too large: needs rate <= delta / (2 sqrt(2) L_x)",
    "joint": "the joint Lipschitz constant L_F is not known",
    "joint_step": "a step is too large: needs rates <= delta / (sqrt(2) L_F)",
    "descent_step": "the step is too large: needs rate <= delta / (sqrt(2) L_x), "
    "without extrapolation delta / L_xx",
    "star_step": "the step is too large: needs rate <= c delta",
    "primal_momentum": "the primal carries momentum",
    "look_momentum": "the primal's extrapolation carries momentum",
    "momentum": "a player carries momentum",
    "unscaled": "the update's rate differs from the extrapolation's",
    "shortened": "the update's rate exceeds the extrapolation's",
    "dual_look": "the dual does not extrapolate at the rate of its update",
    "dual_rests": "the dual extrapolates",
    "objective": "the game has no objective",
}
"""Premise to the reason that is reported if it fails."""

_T1 = ("extragradient", "exact", "deterministic", "one_sided_mvi", "primal_momentum", "unscaled",
       "step", "box", "radius", "finite")  # fmt: skip

BOUNDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "C0": ("the master identity, up to rounding", ("finite",)),
    "C1": ("the identity under the one-sided MVI, for this x*", ("finite",)),
    "C2": ("the same for any x* in the run's bounding box", ("finite",)),
    "T1": ("one-sided convergence", _T1),
    "T1 strong": ("distance to x* under the strong one-sided MVI", (*_T1, "strong")),
    "T2": ("one-sided convergence for any dual", (*_T1, "dual_rests")),
    "T3": (
        "one-sided convergence in expectation over minibatches",
        ("extragradient", "exact", "independent", "mean_minty", "one_sided_mvi", "primal_momentum",
         "unscaled", "half_step", "box", "radius", "finite"),
    ),
    "T4": (
        "two-sided convergence",
        ("extragradient", "exact", "deterministic", "mvi", "momentum", "unscaled", "dual_look",
         "joint", "joint_step", "box", "radius", "finite"),
    ),
    "T5": (
        "freezing: no MVI needed",
        ("no_past", "exact", "deterministic", "primal_momentum", "unscaled", "descent_step", "box",
         "objective", "finite"),
    ),
    "T6": (
        "plain AMSGrad under star-cocoercivity",
        ("plain", "exact", "deterministic", "star", "primal_momentum", "star_step", "box",
         "radius", "finite"),
    ),
    "T7": (
        "one-sided convergence, extrapolation from the past",
        ("past", "exact", "deterministic", "one_sided_mvi", "past_step", "box", "radius",
         "finite"),
    ),
    "T8": (
        "one-sided convergence under primal momentum",
        ("extragradient", "exact", "deterministic", "one_sided_mvi", "look_momentum", "unscaled",
         "half_step", "box", "radius", "finite"),
    ),
    "T9": (
        "one-sided convergence of extragradient+",
        ("extragradient", "exact", "deterministic", "one_sided_mvi", "primal_momentum",
         "shortened", "step", "box", "radius", "finite"),
    ),
}  # fmt: skip
"""Name to statement and premises, in the order of the report."""


def start(players: PrimalDual, known: Known, momentum: bool) -> Progress:
    """The state before the first iteration; ``momentum``: the primal's update may have momentum."""
    fixed = _fixed_premises(known)
    failed = [0 if fixed.get(name, True) else 1 for name in PREMISES]
    none, never = jnp.full(len(BOUNDS), jnp.nan), jnp.zeros(len(BOUNDS), jnp.int32)
    sums = no_sums(players, momentum)
    return Progress(sums, none, none, none, never, jnp.asarray(failed, jnp.int32))


def advance(progress: Progress, move: Move, known: Known) -> Progress:
    """Adds one iteration and checks every inequality."""
    sums = add_move(progress.sums, move, known)
    lhs, rhs, size = _sides(sums, known)
    ratio, broken = _compare(lhs, rhs, size)
    premises = {**_run_premises(sums, move, known), **_step_sizes(move, known)}
    holds = jnp.stack([jnp.asarray(premises.get(name, True)) for name in PREMISES])
    new = Progress(
        sums=sums,
        lhs=lhs,
        rhs=rhs,
        worst=jnp.fmax(progress.worst, ratio),
        first=jnp.where((progress.first == 0) & broken, sums.count, progress.first),
        failed=jnp.where((progress.failed == 0) & ~holds, sums.count, progress.failed),
    )
    if known.kind != "past":  # every call is an iteration
        return new
    return jax.tree.map(lambda a, b: jax.lax.select(move.active, a, b), new, progress)


def _fixed_premises(known: Known) -> dict[str, bool]:
    """The premises that depend only on the game and the method."""
    facts = known.facts
    deterministic = facts.noise_variance == 0
    return {
        "extragradient": known.kind == "extragradient",
        "plain": known.kind == "plain",
        "past": known.kind == "past",
        "no_past": known.kind != "past",
        "deterministic": deterministic,
        "independent": known.independent or deterministic,
        "mean_minty": deterministic or facts.one_sided_mvi,
        "mvi": facts.mvi and known.solution.dual is not None,
        "joint": facts.lipschitz is not None,
        "star": facts.star_cocoercivity is not None,
        "strong": facts.strong_mvi is not None,
        "objective": known.objective is not None,
    }


def _sides(sums: Sums, known: Known) -> list[Any]:
    """Left sides, right sides and rounding scales of all inequalities, times the sum of rates."""
    x_star, facts, delta = known.solution.primal, known.facts, known.delta.primal
    lipschitz_y = math.sqrt(2) * facts.lipschitz_xy
    nan = jnp.full((), jnp.nan, jnp.float64)
    a0, s, p, q, squared = sums.a0, sums.s, sums.p, sums.q, sums.squared.primal
    along = total(jnp.multiply, sums.gradient, x_star)
    size = jnp.abs(a0) + 2 * jnp.abs(s) + q + p + 2 * jnp.abs(along)
    widest = largest(_reach(sums, known, 0)) if known.radius is None else known.radius
    trace = widest**2 * total(lambda v: v, sums.variation.primal)
    looked = lipschitz_y**2 / delta * sums.look
    moved = lipschitz_y**2 / delta * sums.moved
    both, strong = nan, nan
    if known.solution.dual is not None:
        both = 2 * sum(
            total(lambda d, v: d * d * v, _reach(sums, known, i), sums.variation[i])
            for i in range(2)
        )
    if facts.strong_mvi:
        strong = (trace + looked) / (2 * facts.strong_mvi)
    noise = 6 * facts.noise_variance / delta * sums.rate
    sides = {
        "C0": (p, a0 - 2 * s + q, size),
        "C1": (p, a0 - 2 * along + q, size),
        "C2": (p, _boxed(sums, x_star) + q, 0.0),
        "T1": (squared, 2 * trace + 2 * looked, 0.0),
        "T1 strong": (sums.distance, strong, 0.0),
        "T2": (squared, 2 * trace, 0.0),
        "T3": (squared, 2 * trace + 4 * looked + noise, 0.0),
        "T4": (squared + sums.squared.dual, both, 0.0),
        "T5": (squared, (2 if known.kind == "plain" else 4) * sums.work + 2 * looked, 0.0),
        "T6": (squared, trace, 0.0),
        "T7": (squared, 1.5 * trace + 2 * moved, 0.0),
        "T8": (squared, 2 * trace + 4 * looked + _momentum(sums, delta), 0.0),
        "T9": (squared, 2 * trace + 2 * looked, 0.0),
    }
    fixed = _fixed_premises(known)
    for name, (_, needed) in BOUNDS.items():
        if not all(fixed.get(premise, True) for premise in needed):
            sides[name] = (nan, nan, 0.0)
    return [jnp.stack([jnp.asarray(sides[name][i]) for name in BOUNDS]) for i in range(3)]


def _reach(sums: Sums, known: Known, player: int) -> Any:
    """``D_i``, the largest distance of each coordinate of a player from the solution."""
    return jax.tree.map(
        lambda low, high, s: jnp.maximum(jnp.abs(low - s), jnp.abs(high - s)),
        sums.low[player],
        sums.high[player],
        known.solution[player],
    )


def _boxed(sums: Sums, x_star: Any) -> Any:
    """The right side of C2, infinite while ``x*`` lies outside the run's bounding box."""
    low, high = sums.low.primal, sums.high.primal
    within = jax.tree.map(lambda a, x, b: jnp.all((a <= x) & (x <= b)), low, x_star, high)
    ranges = jax.tree.map(jnp.subtract, high, low)
    here = jnp.stack(jax.tree.leaves(within)).all()
    return jnp.where(here, 0.0, jnp.inf) + total(
        lambda r, v: r * r * v, ranges, sums.variation.primal
    )


def _momentum(sums: Sums, delta: Any) -> Any:
    """The momentum term in the right side of Theorem 8."""
    entries = sum(leaf.size for leaf in jax.tree.leaves(sums.gradient))
    return (
        8 * entries * sums.steepest * sums.farthest * sums.b1
        + 16 * entries * sums.steepest**2 / delta * sums.b1_squared
    )


def _run_premises(sums: Sums, move: Move, known: Known) -> dict[str, Any]:
    """The premises on the points, the momentum and the run so far."""
    facts, z = known.facts, move.before
    no_primal_momentum = jnp.logical_and(move.b1[0] == 0, move.b1[1] == 0)
    premises = {
        "finite": jnp.isfinite(sums.p + sums.q + sums.a0),
        "exact": move.exact,
        "primal_momentum": no_primal_momentum,
        "look_momentum": move.b1[1] == 0,
        "momentum": jnp.logical_and(no_primal_momentum, move.b1[2] == 0),
        "unscaled": _near_one(move.shrink.primal),
        "shortened": move.shrink.primal <= 1 + ROUNDING,
        "dual_look": jnp.logical_and(move.dual_looks, _near_one(move.shrink.dual)),
        "dual_rests": sums.look == 0,
    }
    if facts.noise_variance == 0:
        size = jnp.abs(sums.s) + jnp.abs(sums.minty) + sums.p
        premises["one_sided_mvi"] = sums.minty >= -ROUNDING * size
    bounded = [i for i in range(2) if not math.isinf(facts.boxes[i])]
    if bounded:
        points = (z, *(jax.tree.map(jnp.add, z, d) for d in (move.look, move.step)))
        sizes = [largest(point[i]) / facts.boxes[i] for point in points for i in bounded]
        premises["box"] = jnp.max(jnp.stack(sizes)) <= 1
    if known.radius is not None:
        away = jax.tree.map(jnp.subtract, z.primal, known.solution.primal)
        premises["radius"] = largest(away) <= known.radius
    if known.objective is not None:
        premises["objective"] = jnp.isfinite(sums.work)
    return premises


def _step_sizes(move: Move, known: Known) -> dict[str, Any]:
    """The premises on the size of this step."""
    facts, delta, root = known.facts, known.delta, math.sqrt(2)
    slack = 1 + ROUNDING  # for a rate exactly at the bound
    steepness = move.rates.primal * root * facts.lipschitz_xx / delta.primal  # rate L_x / delta
    premises = {
        "step": steepness <= slack / root,
        "half_step": steepness <= slack / 2,
        "past_step": steepness <= slack / (2 * root),
        "descent_step": steepness <= slack * (root if known.kind == "plain" else 1 / root),
    }
    if facts.star_cocoercivity is not None:
        cocoercive = facts.star_cocoercivity * delta.primal
        premises["star_step"] = move.rates.primal <= slack * cocoercive
    if facts.lipschitz is not None:
        fastest, smallest = jnp.maximum(*move.rates), jnp.minimum(*delta)
        premises["joint_step"] = fastest * facts.lipschitz <= slack * smallest / root
    return premises


def _near_one(ratio: Any) -> Any:
    return abs(ratio - 1) <= ROUNDING


def _compare(lhs: Any, rhs: Any, size: Any) -> tuple[Any, Any]:
    """Ratios of the sides and whether ``lhs > rhs``; for the equality C0, its relative residual."""
    excess = lhs - rhs
    ratio = jnp.where(lhs <= 0, 0.0, jnp.where(rhs > 0, lhs / rhs, jnp.inf))
    ratio = jnp.where(jnp.isnan(rhs), jnp.nan, ratio)
    identity = jnp.asarray([name == "C0" for name in BOUNDS])
    ratio = jnp.where(identity, jnp.abs(excess) / size, ratio)
    excess = jnp.where(identity, jnp.abs(excess), excess)
    return ratio, excess > ROUNDING * jnp.where(identity, size, size + jnp.abs(rhs))
