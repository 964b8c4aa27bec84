"""The rules: from measured numbers per seed to a status, with one boundary per statistic.

Ratios are judged on the log scale, where one seed out of line cannot outweigh the others. An
interval is Student's over seeds. A claim that needs several boundaries is supported if every
interval lies on the right side. It is refuted if any interval, widened for their number, lies
wholly on the wrong side. A diverged seed is left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.analysis.estimators import Array, Change, Mask
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.inference import t_interval
from onesided_jax.analysis.minty import MintyTest
from onesided_jax.analysis.verdict import Status, Verdict
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria

__all__ = [
    "Part",
    "Runs",
    "convergence_verdict",
    "judge_convergence",
    "judge_negative_mass",
    "minty_verdict",
    "too_few",
]

SUCCESSFUL = 0.75  # share of runs that must pass the gate for training to be called successful


class Runs(NamedTuple):
    """Runs that differ in the seed only.

    Attributes:
      cell: label of the optimizer's cell.
      setting: its hyperparameters.
      seeds: ``int[R]``.
      diverged: ``bool[R]``.
      players: what the two players are called.
    """

    cell: str
    setting: dict[str, float]
    seeds: Array
    diverged: Mask
    players: PrimalDual


class Part(NamedTuple):
    """One statistic and its boundary.

    Attributes:
      effect: mean over seeds; geometric for a ratio.
      low: lower limit at the criteria's confidence.
      high: upper limit.
      boundary: where the claim begins to hold.
      side: ``"right"``, ``"wrong"`` or ``"open"``.
      bounded: whether it is open because most seeds give only a bound: a norm was at its floor.
    """

    effect: float
    low: float
    high: float
    boundary: float
    side: str
    bounded: bool = False

    def __str__(self) -> str:
        return _span(self.effect, self.low, self.high)

    def percent(self) -> str:
        """The effect of a share, in percent."""
        return _span(100 * self.effect, 100 * self.low, 100 * self.high, "{:.2g}%")


def judge_convergence(
    primal: Change, dual: Change, criteria: Criteria
) -> tuple[Status, dict[str, Part]]:
    """Does the primal player alone converge? Three statistics, all over the same seeds.

    Args:
      primal: the primal player's norms, ``[n]``; no NaN.
      dual: the dual player's.
      criteria: boundaries and confidence; ``min_seeds`` is not looked at.

    Returns:
      The status, and a :class:`Part` for ``"primal"`` (its ratio must be below), ``"dual"`` (above)
      and ``"parting"`` (dual over primal, above).

    Example:
      >>> import numpy as np
      >>> no = np.zeros(3, bool)
      >>> falls = Change(np.ones(3), np.array([0.2, 0.25, 0.3]), no, no)
      >>> stays = Change(np.ones(3), np.array([0.9, 1.0, 1.2]), no, no)
      >>> status, parts = judge_convergence(falls, stays, Criteria())
      >>> status, str(parts["primal"])
      ('supported', '0.247 [0.149, 0.408]')
    """
    a, b = np.log(primal.ratio), np.log(dual.ratio)
    upper = (primal.late_floored, dual.late_floored, dual.late_floored | primal.early_floored)
    lower = (primal.early_floored, dual.early_floored, dual.early_floored | primal.late_floored)
    boundaries = (criteria.generator_falls, criteria.discriminator_stays, criteria.parting)
    parts = {}
    for i, (name, logs) in enumerate({"primal": a, "dual": b, "parting": b - a}.items()):
        below = name == "primal"
        parts[name] = _part(logs, boundaries[i], below, (lower[i], upper[i]), criteria)
    sides = [part.side for part in parts.values()]
    if "wrong" in sides:
        return "refuted", parts
    return "supported" if set(sides) == {"right"} else "undecided", parts


def _part(
    logs: Array, boundary: float, below: bool, bounds: tuple[Mask, Mask], criteria: Criteria
) -> Part:
    """One statistic; a seed whose value is only a bound must not carry the side that it favours."""
    mean, *limits = t_interval(logs, level=criteria.confidence)
    wide = t_interval(logs, level=1 - (1 - criteria.confidence) / 3)
    line = math.log(boundary)
    right, wrong = limits[1] < line, wide.low > line
    if not below:
        right, wrong = limits[0] > line, wide.high < line
    lower, upper = (bound.size and bound.mean() > 0.5 for bound in bounds)
    if not below:
        lower, upper = upper, lower
    bounded = bool((right and lower) or (wrong and upper))
    side = "open" if bounded or not (right or wrong) else "right" if right else "wrong"
    return Part(_exp(mean), _exp(limits[0]), _exp(limits[1]), boundary, side, bounded)


def judge_negative_mass(
    masses: Array, noise: Array, controls: dict[str, float], criteria: Criteria
) -> tuple[Status, Part, str]:
    """Does the one-sided MVI hold? One statistic: the negative mass, mean over seeds.

    Noise makes entries of either sign, so that it can refute and not support. It refutes nothing
    here: the negative mass that noise alone would give must be below the boundary too.

    Args:
      masses: negative mass per seed, ``[n]``.
      noise: the negative mass that noise alone would give, ``[n]``.
      controls: mean negative mass of each control that must fail; empty where none is needed.
      criteria: boundary and confidence; ``min_seeds`` is not looked at.

    Returns:
      Status, statistic, and why it is undecided although the interval is on one side, or ``""``.

    Example:
      >>> import numpy as np
      >>> judge_negative_mass(np.array([0.01, 0.02, 0.03]), np.zeros(3), {}, Criteria())[0]
      'supported'
    """
    boundary = criteria.negative_mass
    mean, low, high = t_interval(masses, level=criteria.confidence)
    low, high = max(low, 0.0), min(high, 1.0)  # NaN stays NaN
    side = "right" if high < boundary else "wrong" if low > boundary else "open"
    part = Part(mean, low, high, boundary, side)
    passing = [name for name, mass in controls.items() if mass < boundary]
    if side == "right" and passing:
        return "undecided", part, f"the control {' and the control '.join(passing)} passes too"
    if side == "wrong" and noise.mean() >= boundary:
        return "undecided", part, f"noise alone would give {100 * noise.mean():.2g}%"
    statuses: dict[str, Status] = {"right": "supported", "wrong": "refuted"}
    return statuses.get(side, "undecided"), part, ""


def convergence_verdict(
    runs: Runs, change: PrimalDual, gate: Gate, missing: Sequence[str], criteria: Criteria
) -> Verdict:
    """The verdict "only the primal player converges" on runs that differ in the seed only.

    Args:
      runs: who played.
      change: both players' :class:`Change`, ``[R]``.
      gate: which runs trained successfully. It changes no status; the verdict counts them, and
        judges them once more by themselves.
      missing: what the measurement lacks for a decision, a few words each.
      criteria: boundaries and confidence.
    """
    primal, dual = change
    used = ~runs.diverged & np.isfinite(primal.ratio) & np.isfinite(dual.ratio)
    status, parts = judge_convergence(_rows(primal, used), _rows(dual, used), criteria)
    missing = [*too_few(int(used.sum()), "seed", criteria.min_seeds), *missing]
    floored = used & np.any([*primal[2:], *dual[2:]], axis=0)
    passing = None
    if gate.passes is not None:
        rows = used & gate.passes
        chosen, again = judge_convergence(_rows(primal, rows), _rows(dual, rows), criteria)
        enough = not missing and rows.sum() >= criteria.min_seeds
        passing = {"runs": int(rows.sum()), "status": chosen if enough else "undecided"}
        passing |= _intervals(again)
    if missing:
        status = "undecided"
    sentences = [
        *_convergence_sentences(status, parts, missing, runs.players),
        *_left_out(used),
        *_counted(int(floored.sum())),
        *_gate_sentence(gate, used),
    ]
    return Verdict(
        claim=f"only the {runs.players.primal} converges",
        cell=runs.cell,
        setting=runs.setting,
        status=status,
        effect=parts["primal"].effect,
        interval=parts["primal"][1:3],
        sentence=" ".join(sentences),
        numbers={
            "measure": f"late over early norm of the {runs.players.primal}, geometric mean",
            **_intervals(parts),
            "boundaries": {name: part.boundary for name, part in parts.items()},
            "runs": int(used.sum()),
            "left_out": int((~used).sum()),
            "floored": int(floored.sum()),
            "passing": passing,
            "seeds": runs.seeds,
            "primal_ratios": primal.ratio,
            "dual_ratios": dual.ratio,
            "missing": "; ".join(missing),
        },
    )


def minty_verdict(
    runs: Runs, tests: Sequence[MintyTest], x_star: str, missing: Sequence[str], criteria: Criteria
) -> Verdict:
    """The verdict "the one-sided MVI holds" on runs that differ in the seed only.

    Args:
      runs: who played.
      tests: of the runs that did not diverge.
      x_star: ``"known"`` or ``"end of the run"``; the controls bind for the latter only.
      missing: what the measurement lacks for a decision, a few words each.
      criteria: boundary and confidence.
    """
    masses, noise, cosines = (
        np.array([getattr(test, name) for test in tests])
        for name in ("negative_mass", "noise_mass", "mean_cosine")
    )
    names = tests[0].controls if tests else ()
    controls = {name: float(np.mean([t.controls[name] for t in tests])) for name in names}
    binding = {} if x_star == "known" else controls
    status, part, fault = judge_negative_mass(masses, noise, binding, criteria)
    missing = [*too_few(len(tests), "seed", criteria.min_seeds), *missing]
    if missing:
        status = "undecided"
    cosine = t_interval(cosines, level=criteria.confidence)
    necessary = t_interval([_middle(t.necessary) for t in tests], level=criteria.confidence)
    sentences = [_minty_sentence(status, part, fault, missing)]
    if not math.isnan(cosine.mean):
        sentences.append(f"The mean cosine is {_span(*cosine)}.")
    if x_star != "known" and not math.isnan(necessary.mean):
        sentences.append(
            f"The gradient at x* is {_span(*necessary)} of that on the path;"
            " the inequality at every x near x* asks for 0."
        )
    return Verdict(
        claim="the one-sided MVI holds late in the run",
        cell=runs.cell,
        setting=runs.setting,
        status=status,
        effect=part.effect,
        interval=part[1:3],
        sentence=" ".join(sentences),
        numbers={
            "measure": "share of negative entries in the cross matrix, mean over runs",
            "boundary": part.boundary,
            "runs": len(tests),
            "cosine": list(cosine),
            "necessary": list(necessary),
            "controls": controls,
            "noise_mass": noise,
            "negative_masses": masses,
            "cosines": cosines,
            "x_star": x_star,
            "missing": "; ".join(missing),
        },
    )


def too_few(count: int, thing: str, needed: int) -> list[str]:
    """What is missing, in a few words, or nothing.

    Example:
      >>> too_few(1, "seed", 3), too_few(3, "seed", 3)
      (['1 seed, 3 needed'], [])
    """
    return [] if count >= needed else [f"{count} {thing}{'s' * (count != 1)}, {needed} needed"]


def _convergence_sentences(
    status: Status, parts: dict[str, Part], missing: Sequence[str], players: PrimalDual
) -> list[str]:
    primal, dual = players
    said = {
        "primal": f"the {primal}'s late gradient norm is {parts['primal']} of its early one",
        "dual": f"the {dual}'s late gradient norm is {parts['dual']} of its early one",
        "parting": f"the {dual}'s change is {parts['parting']} times the {primal}'s",
    }
    if missing:
        both = "" if math.isnan(parts["primal"].effect) else f"{said['primal']}, the {dual}'s "
        both += f"{parts['dual']}." if both else ""
        return [f"Undecided: {'; '.join(missing)}.", *([both[:1].upper() + both[1:]] * bool(both))]
    if status == "supported":
        return [
            f"Only the {primal} converges: its gradient norm falls to {parts['primal']} of its"
            " early value.",
            f"The {dual}'s ends at {parts['dual']} of its early value.",
        ]
    if status == "refuted":
        name = next(name for name, part in parts.items() if part.side == "wrong")
        start, side = {
            "primal": (f"The {primal} does not converge", "above"),
            "dual": (f"The {dual} converges too", "below"),
            "parting": ("The players do not part", "below"),
        }[name]
        return [f"{start}: {said[name]}, {side} the boundary {parts[name].boundary:g}."]
    out = []
    for name, part in parts.items():
        if part.bounded:
            out.append(f"Undecided: {said[name]}, but most runs are at a noise floor.")
        elif part.side == "open":
            factor = math.exp(abs(math.log(part.effect / part.boundary)))
            near = f"a factor {factor:.3g} from the boundary {part.boundary:g}"
            out.append(f"Undecided: {said[name]}, {near}.")
    return out


def _minty_sentence(status: Status, part: Part, fault: str, missing: Sequence[str]) -> str:
    measured = f"negative entries are {part.percent()} of the cross matrix"
    boundary = f"the boundary {100 * part.boundary:g}%"
    if missing:
        effect = "" if math.isnan(part.effect) else f" {measured[:1].upper()}{measured[1:]}."
        return f"Undecided: {'; '.join(missing)}.{effect}"
    if fault:
        return f"Undecided: {measured}, but {fault}."
    return {
        "supported": f"The one-sided MVI holds: {measured}, below {boundary}.",
        "refuted": f"The one-sided MVI fails: {measured}, above {boundary}.",
        "undecided": f"Undecided: {measured}, too close to {boundary}.",
    }[status]


def _middle(values: Array) -> float:
    """The median of the finite values, or NaN."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def _left_out(used: Mask) -> list[str]:
    lost = int((~used).sum())
    verb = "is" if lost == 1 else "are"
    return [f"{lost} of {used.size} runs diverged and {verb} left out."] * bool(lost)


def _counted(floored: int) -> list[str]:
    runs = f"{floored} run{'s' * (floored != 1)}"
    return [f"In {runs} a norm is below its noise floor and counts as the floor."] * bool(floored)


def _gate_sentence(gate: Gate, used: Mask) -> list[str]:
    if gate.passes is None:
        return []
    passing, runs = int((gate.passes & used).sum()), int(used.sum())
    does = "counts" if passing >= SUCCESSFUL * max(runs, 1) else "does not count"
    return [f"{passing} of {runs} runs pass the quality gate: training {does} as successful."]


def _intervals(parts: dict[str, Part]) -> dict[str, Any]:
    return {name: [part.effect, part.low, part.high] for name, part in parts.items()}


def _rows(change: Change, rows: Mask) -> Change:
    early, late, early_floored, late_floored = change
    return Change(early[rows], late[rows], early_floored[rows], late_floored[rows])


def _span(mean: float, low: float, high: float, form: str = "{:.3g}") -> str:
    """A mean with its limits, as words.

    Example:
      >>> _span(0.25, 0.2, 0.3), _span(0.25, float("nan"), 0.3)
      ('0.25 [0.2, 0.3]', '0.25')
    """
    if math.isnan(mean):
        return "unknown"
    limits = "" if math.isnan(low) else f" [{form.format(low)}, {form.format(high)}]"
    return form.format(mean) + limits


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
