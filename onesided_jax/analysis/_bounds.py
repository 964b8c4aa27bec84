"""Running sums of the certificates, and the theorems' two sides from them; float64 throughout."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.players import PrimalDual

__all__ = ["BOUNDS", "PREMISES", "Check", "Known", "Move", "Sums", "advance", "start"]

ROUNDING = 1e-9  # relative; C1 is an equality on the carousel's ring


class Move(NamedTuple):
    """One iteration, whatever optimizer made it.

    Attributes:
      active: bool scalar; ``False`` for a call that completes no iteration.
      before: ``z_t``.
      look: ``z~_t - z_t``; 0 where nothing is extrapolated.
      step: ``z_{t+1} - z_t``.
      metric: ``M_t = H_t / eta_t``, the metric of the update.
      rates: ``gamma_t``, the extrapolation's rate (without one, the update's), two scalars.
      shrink: ``eta_t / gamma_t``, the update's rate in units of it, two scalars.
      b1: momentum of the primal's update, of its extrapolation and of the dual's update.
      dual_looks: whether the dual extrapolates.
      exact: bool scalar; whether extrapolation and update followed the field itself.
    """

    active: Any
    before: PrimalDual
    look: PrimalDual
    step: PrimalDual
    metric: PrimalDual
    rates: PrimalDual
    shrink: PrimalDual
    b1: tuple[Any, Any, Any]
    dual_looks: Any
    exact: Any


class Known(NamedTuple):
    """What does not change along a run.

    Attributes:
      kind: "extragradient", "plain" or "past".
      solution: ``(x*, y*)``; ``y*`` may be ``None``.
      delta: lower bounds of the two preconditioners.
      facts: the game's :class:`~onesided_jax.games.GameFacts`.
      radius: bound on ``|x_i - x*_i|`` fixed beforehand, or ``None``: measured.
      independent: whether a step's two evaluations see independent minibatches.
      objective: ``players -> f``, or ``None``: Theorem 5 is left out.
    """

    kind: str
    solution: PrimalDual
    delta: PrimalDual
    facts: Any
    radius: Any
    independent: bool
    objective: Any


class Check(NamedTuple):
    """All inequalities up to now, one entry each in the order of ``BOUNDS``.

    Attributes:
      lhs: left sides.
      rhs: right sides.
      worst: the largest ratio so far.
      first: the first step that broke it, 0 if none.
    """

    lhs: Any
    rhs: Any
    worst: Any
    first: Any


class Sums(NamedTuple):
    """Everything that is carried through the scan; see docs/theory, "Certificates".

    Attributes:
      count: int32 scalar, iterations done.
      a0: per player, sum of ``M (z^2 - z_+^2)``.
      s: per player, sum of ``<q, z~>``.
      p: per player, sum of ``||p||^2`` in the norm of the inverse metric.
      q: per player, sum of ``||q - p||^2`` in it.
      gradient: per player, the vector sum of ``q``.
      low: smallest value of each coordinate so far.
      high: largest value.
      metric: the last ``M``.
      variation: positive variation of ``M`` per coordinate; the last ``M`` if it never decreased.
      squared: per player, sum of ``gamma ||g||^2`` in the norm of the inverse preconditioner.
      rate: sum of the primal's extrapolation rates.
      look: sum of ``gamma ||y~ - y||^2``.
      moved: sum of ``gamma ||y~_t - y~_{t-1}||^2``.
      distance: sum of ``||x~ - x*||^2``.
      farthest: largest ``|x~_i - x*_i|``.
      steepest: largest ``|g_i|`` at ``z`` or ``z~``.
      b1: sum of the update's momentum.
      b1_squared: sum of ``gamma b1^2``.
      work: sum of ``f(x_t, y_t) - f(x_{t+1}, y_t)``.
      last_dual: ``y~_{t-1}``.
      last_update: ``q_{t-1}`` of the primal, or ``()``.
      minty: sum of ``<g~, x~ - x*>``, ``g~`` the primal gradient at ``z~``.
      check: :class:`Check` of all bounds.
      failed: first step without each premise, in the order of ``PREMISES``; 0 while it holds.
    """

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    a0: PrimalDual
    s: PrimalDual
    p: PrimalDual
    q: PrimalDual
    gradient: PrimalDual
    low: PrimalDual
    high: PrimalDual
    metric: PrimalDual
    variation: PrimalDual
    squared: PrimalDual
    rate: Any
    look: Any
    moved: Any
    distance: Any
    farthest: Any
    steepest: Any
    b1: Any
    b1_squared: Any
    work: Any
    last_dual: Any
    last_update: Any
    minty: Any
    check: Check
    failed: Any


PREMISES = {
    "extragradient": "it is about extragradient",
    "plain": "it is about methods without extrapolation",
    "past": "it is about extrapolation from the past",
    "no_past": "it is not about extrapolation from the past",
    "finite": "a sum is not finite",
    "exact": "the steps do not follow the field itself (clipping, weight decay, momentum? "
    "another method, rate or option than named?)",
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
"""Premise to what is said where it fails."""

_T1 = ("extragradient", "exact", "deterministic", "one_sided_mvi", "primal_momentum", "unscaled",
       "step", "box", "radius", "finite")  # fmt: skip

BOUNDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "C0": ("the master identity, to rounding", ("finite",)),
    "C1": ("the identity under the one-sided MVI, for this x*", ("finite",)),
    "C2": ("the same for any x* in the run's bounding box", ("finite",)),
    "T1": ("one-sided convergence", _T1),
    "T1 strong": ("distance to x* under the strong one-sided MVI", (*_T1, "strong")),
    "T2": ("one-sided convergence, whatever the dual does", (*_T1, "dual_rests")),
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
"""Name to what it says and its premises, in the order they are reported."""


def start(players: PrimalDual, known: Known, momentum: bool) -> Sums:
    """Sums over no iteration; ``momentum``: whether the primal's update may carry any."""
    failed = [0 if fixed_premises(known).get(name, True) else 1 for name in PREMISES]
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.float64), players)
    here = jax.tree.map(lambda a: a.astype(jnp.float64), players)
    zero, never = jnp.zeros((), jnp.float64), jnp.zeros((), jnp.int32)
    pair = PrimalDual(zero, zero)
    return Sums(
        count=never,
        a0=pair,
        s=pair,
        p=pair,
        q=pair,
        gradient=zeros,
        low=here,
        high=here,
        metric=zeros,
        variation=zeros,
        squared=pair,
        rate=zero,
        look=zero,
        moved=zero,
        distance=zero,
        farthest=zero,
        steepest=zero,
        b1=zero,
        b1_squared=zero,
        work=zero,
        last_dual=here.dual,
        last_update=zeros.primal if momentum else (),
        minty=zero,
        check=Check(
            *(jnp.full(len(BOUNDS), jnp.nan) for _ in range(3)),
            first=jnp.zeros(len(BOUNDS), jnp.int32),
        ),
        failed=jnp.asarray(failed, jnp.int32),
    )


def advance(sums: Sums, move: Move, known: Known) -> Sums:
    """Takes in one iteration and checks every inequality at this ``T``."""
    z, metric = move.before, move.metric
    middle, after = (jax.tree.map(jnp.add, z, d) for d in (move.look, move.step))
    p, q = (jax.tree.map(lambda m, d: -m * d, metric, d) for d in (move.look, move.step))
    x_star = known.solution.primal

    def each(function, *trees) -> PrimalDual:
        """Adds up one number per player."""
        return PrimalDual(*(_total(function, *parts) for parts in zip(*trees, strict=True)))

    p_squared = each(lambda a, m: a * a / m, p, metric)
    q_squared = each(lambda a, m: a * a / m, q, metric)
    gap = jax.tree.map(jnp.subtract, q, p)
    remembers = bool(jax.tree.leaves(sums.last_update))
    gamma, shrink, b1 = move.rates.primal, move.shrink, move.b1[0]
    if known.kind == "plain":
        squared, slopes = q_squared, [q.primal]
    else:
        squared = PrimalDual(*(r * total for r, total in zip(shrink, p_squared, strict=True)))
        slopes = [jax.tree.map(lambda a: a * shrink.primal, p.primal), q.primal]
        if remembers:  # take the momentum back
            slopes[1] = jax.tree.map(
                lambda m, last: (m - b1 * last) / (1 - b1), q.primal, sums.last_update
            )
    away = jax.tree.map(jnp.subtract, middle.primal, x_star)
    work = sums.work
    if known.objective is not None:
        stepped = PrimalDual(after.primal, z.dual)
        work = work + known.objective(z) - known.objective(stepped)

    new = sums._replace(
        count=sums.count + 1,
        a0=_sum(sums.a0, each(lambda q, a, b: q * (a + b), q, z, after)),
        s=_sum(sums.s, each(jnp.multiply, q, middle)),
        p=_sum(sums.p, p_squared),
        q=_sum(sums.q, each(lambda a, m: a * a / m, gap, metric)),
        gradient=_sum(sums.gradient, q),
        low=jax.tree.map(jnp.minimum, sums.low, z),
        high=jax.tree.map(jnp.maximum, sums.high, z),
        metric=metric,
        variation=jax.tree.map(
            lambda v, new, old: v + jnp.maximum(new - old, 0), sums.variation, metric, sums.metric
        ),
        squared=_sum(sums.squared, squared),
        rate=sums.rate + gamma,
        look=sums.look + gamma * _total(lambda d: d * d, move.look.dual),
        moved=sums.moved + gamma * _total(lambda a, b: (a - b) ** 2, middle.dual, sums.last_dual),
        distance=sums.distance + _total(lambda a: a * a, away),
        farthest=jnp.maximum(sums.farthest, _largest(away)),
        steepest=jnp.maximum(sums.steepest, jnp.max(jnp.stack([*map(_largest, slopes)]))),
        b1=sums.b1 + b1,
        b1_squared=sums.b1_squared + gamma * b1 * b1,
        work=work,
        minty=sums.minty + _total(jnp.multiply, slopes[-1], away),
        last_dual=middle.dual,
        last_update=q.primal if remembers else (),
    )
    new = new._replace(
        check=_check(sums.check, _sides(new, known), new.count),
        failed=_fail(sums.failed, _premises(new, move, (z, middle, after), known), new.count),
    )
    if known.kind != "past":  # every call is an iteration
        return new
    return jax.tree.map(lambda a, b: jax.lax.select(move.active, a, b), new, sums)


def fixed_premises(known: Known) -> dict[str, bool]:
    """The premises that the game and the method settle before the run."""
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
    """Left sides, right sides and scales of rounding of all inequalities, times the rates' sum."""
    x_star, y_star = known.solution
    nan = jnp.full((), jnp.nan, jnp.float64)
    lipschitz_y = math.sqrt(2) * known.facts.lipschitz_xy
    delta = known.delta.primal
    squared = sums.squared.primal

    def reach(player: int, solution: Any) -> Any:
        """D_i, the largest distance of each coordinate from the solution."""
        return jax.tree.map(
            lambda low, high, s: jnp.maximum(jnp.abs(low - s), jnp.abs(high - s)),
            sums.low[player], sums.high[player], solution,
        )  # fmt: skip

    a0, s, p, q = sums.a0.primal, sums.s.primal, sums.p.primal, sums.q.primal
    along = _total(jnp.multiply, sums.gradient.primal, x_star)
    phi = a0 - 2 * along
    size = jnp.abs(a0) + 2 * jnp.abs(s) + q + p + 2 * jnp.abs(along)
    widest = _largest(reach(0, x_star)) if known.radius is None else known.radius
    trace = widest**2 * _total(lambda v: v, sums.variation.primal)
    ranges = jax.tree.map(jnp.subtract, sums.high.primal, sums.low.primal)
    low_enough = [low <= s for low, s in _pairs(sums.low.primal, x_star)]
    high_enough = [s <= high for high, s in _pairs(sums.high.primal, x_star)]
    inside = jnp.stack([jnp.all(a) for a in low_enough + high_enough]).all()
    # C2 speaks of points in the run's box; while x* is not one of them it says nothing.
    boxed = jnp.where(inside, 0.0, jnp.inf) + _total(
        lambda r, v: r * r * v, ranges, sums.variation.primal
    )
    looked = lipschitz_y**2 / delta * sums.look
    moved = lipschitz_y**2 / delta * sums.moved
    entries = sum(leaf.size for leaf in jax.tree.leaves(x_star))
    momentum = (
        8 * entries * sums.steepest * sums.farthest * sums.b1
        + 16 * entries * sums.steepest**2 / delta * sums.b1_squared
    )
    both = nan
    if y_star is not None:
        both = 2 * sum(
            _total(lambda d, v: d * d * v, reach(i, solution), sums.variation[i])
            for i, solution in enumerate((x_star, y_star))
        )
    strong = known.facts.strong_mvi
    sides = {
        "C0": (p, a0 - 2 * s + q, size),
        "C1": (p, phi + q, size),
        "C2": (p, boxed + q, 0.0),
        "T1": (squared, 2 * trace + 2 * looked, 0.0),
        "T1 strong": (
            sums.distance, (trace + looked) / (2 * strong) if strong else nan, 0.0,
        ),
        "T2": (squared, 2 * trace, 0.0),
        "T3": (
            squared,
            2 * trace + 4 * looked + 6 * known.facts.noise_variance / delta * sums.rate,
            0.0,
        ),
        "T4": (squared + sums.squared.dual, both, 0.0),
        "T5": (squared, (2 if known.kind == "plain" else 4) * sums.work + 2 * looked, 0.0),
        "T6": (squared, trace, 0.0),
        "T7": (squared, 1.5 * trace + 2 * moved, 0.0),
        "T8": (squared, 2 * trace + 4 * looked + momentum, 0.0),
        "T9": (squared, 2 * trace + 2 * looked, 0.0),
    }  # fmt: skip
    skipped = fixed_premises(known)
    for name, (_, needed) in BOUNDS.items():
        if not all(skipped.get(premise, True) for premise in needed):
            sides[name] = (nan, nan, 0.0)
    return [jnp.stack([jnp.asarray(sides[name][i]) for name in BOUNDS]) for i in range(3)]


def _premises(sums: Sums, move: Move, points: tuple, known: Known) -> dict[str, Any]:
    """The premises that only the run can settle, at this step; ``True`` costs nothing."""
    facts, delta = known.facts, known.delta
    slack = 1 + ROUNDING  # for a rate that sits on the bound itself
    x_star, root = known.solution.primal, math.sqrt(2)
    one_sided: Any = True
    if facts.noise_variance == 0:
        size = jnp.abs(sums.s.primal) + jnp.abs(sums.minty) + sums.p.primal
        one_sided = sums.minty >= -ROUNDING * size
    bounded = [i for i in range(2) if not math.isinf(facts.boxes[i])]
    inside: Any = True
    if bounded:
        sizes = [_largest(point[i]) / facts.boxes[i] for point in points for i in bounded]
        inside = jnp.max(jnp.stack(sizes)) <= 1
    near: Any = True
    if known.radius is not None:
        near = _largest(jax.tree.map(jnp.subtract, move.before.primal, x_star)) <= known.radius
    steepness = move.rates.primal * root * facts.lipschitz_xx / delta.primal  # rate L_x / delta
    premises = {
        "finite": jnp.isfinite(sums.p.primal + sums.q.primal + sums.a0.primal),
        "exact": move.exact,
        "one_sided_mvi": one_sided,
        "box": inside,
        "radius": near,
        "step": steepness <= slack / root,
        "half_step": steepness <= slack / 2,
        "past_step": steepness <= slack / (2 * root),
        "descent_step": steepness <= slack * (root if known.kind == "plain" else 1 / root),
        "primal_momentum": _both(move.b1[0] == 0, move.b1[1] == 0),
        "look_momentum": move.b1[1] == 0,
        "momentum": _both(_both(move.b1[0] == 0, move.b1[1] == 0), move.b1[2] == 0),
        "unscaled": _near_one(move.shrink.primal),
        "shortened": move.shrink.primal <= slack,
        "dual_look": _both(move.dual_looks, _near_one(move.shrink.dual)),
        "dual_rests": sums.look == 0,
    }
    if facts.star_cocoercivity is not None:
        cocoercive = facts.star_cocoercivity * delta.primal
        premises["star_step"] = move.rates.primal <= slack * cocoercive
    if facts.lipschitz is not None:
        fastest, smallest = jnp.maximum(*move.rates), jnp.minimum(*delta)
        premises["joint_step"] = fastest * facts.lipschitz <= slack * smallest / root
    if known.objective is not None:
        premises["objective"] = jnp.isfinite(sums.work)
    return premises


def _near_one(ratio: Any) -> Any:
    return abs(ratio - 1) <= ROUNDING


def _both(a: Any, b: Any) -> Any:
    """``and`` that leaves Python's ``True`` as it is."""
    if a is True:
        return b
    return a if b is True else jnp.logical_and(a, b)


def _fail(failed: Any, premises: dict[str, Any], count: Any) -> Any:
    """First steps without each premise."""
    holds = jnp.stack([jnp.asarray(premises.get(name, True)) for name in PREMISES])
    return jnp.where((failed == 0) & ~holds, count, failed)


def _check(was: Check, sides: list[Any], count: Any) -> Check:
    """All inequalities (C0: an equality) at this step."""
    lhs, rhs, size = sides
    excess = lhs - rhs
    ratio = jnp.where(lhs <= 0, 0.0, jnp.where(rhs > 0, lhs / rhs, jnp.inf))
    ratio = jnp.where(jnp.isnan(rhs), jnp.nan, ratio)
    identity = jnp.asarray([name == "C0" for name in BOUNDS])
    ratio = jnp.where(identity, jnp.abs(excess) / size, ratio)
    excess = jnp.where(identity, jnp.abs(excess), excess)
    broken = excess > ROUNDING * jnp.where(identity, size, size + jnp.abs(rhs))
    first = jnp.where((was.first == 0) & broken, count, was.first)
    return Check(lhs, rhs, jnp.fmax(was.worst, ratio), first)


def _pairs(*trees: Any) -> Any:
    return zip(*map(jax.tree.leaves, trees), strict=True)


def _total(function: Any, *trees: Any) -> Any:
    """Sum over the leaves' entries of ``function(*leaves)``."""
    parts = jax.tree.leaves(jax.tree.map(lambda *a: jnp.sum(function(*a)), *trees))
    return sum(parts, jnp.zeros((), jnp.float64))


def _largest(tree: Any) -> Any:
    parts = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(parts)) if parts else jnp.zeros((), jnp.float64)


def _sum(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)
