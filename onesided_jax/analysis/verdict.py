"""Verdicts: the status of a claim, with numbers and a sentence in plain English."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.analysis.estimators import Array, Mask
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.inference import t_interval
from onesided_jax.analysis.judge import (
    Part,
    Status,
    judge_convergence,
    judge_negative_mass,
    span,
)
from onesided_jax.analysis.minty import MintyTest
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria

__all__ = ["Runs", "Status", "Verdict", "convergence_verdict", "minty_verdict"]

SUCCESSFUL = 0.75  # share of runs that must pass the gate for training to be called successful


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one claim, from a set of runs. Compare ``status``: a verdict is not a bool.

    Attributes:
      claim: the claim in words, such as "only the generator converges".
      cell: label of the optimizer's cell.
      setting: values of its hyperparameters.
      status: ``"supported"``, ``"refuted"`` or ``"undecided"``.
      effect: for convergence, the primal player's late gradient norm divided by its early one,
        geometric mean over seeds. For the MVI, the negative mass, mean over seeds. NaN if unknown.
      interval: confidence limits of ``effect``; NaN with fewer than 2 seeds.
      sentence: the result and its reason in plain English.
      numbers: values per seed, counts, other intervals, boundaries. ``"missing"`` says briefly why
        the claim could not be judged; it is empty if it could.
    """

    claim: str
    cell: str
    setting: Mapping[str, float]
    status: Status
    effect: float
    interval: tuple[float, float]
    sentence: str
    numbers: Mapping[str, Any]

    def __bool__(self) -> bool:
        raise TypeError(
            'a verdict is neither true nor false: compare verdict.status == "supported"'
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types; non-finite numbers become None."""
        fields = dataclasses.fields(self)
        return _json({field.name: getattr(self, field.name) for field in fields})


class Runs(NamedTuple):
    """Runs that differ only in the seed.

    Attributes:
      cell: label of the optimizer's cell.
      setting: values of its hyperparameters.
      seeds: ``int[R]``.
      diverged: ``bool[R]``.
      players: names of the two players.
    """

    cell: str
    setting: dict[str, float]
    seeds: Array
    diverged: Mask
    players: PrimalDual


def convergence_verdict(
    runs: Runs, change: PrimalDual, gate: Gate, missing: Sequence[str], criteria: Criteria
) -> Verdict:
    """The verdict "only the primal player converges".

    Args:
      runs: runs that differ only in the seed.
      change: both players' :class:`Change`, ``[R]``.
      gate: which runs trained successfully. It does not change the status. The verdict counts the
        successful runs, and ``numbers["passing"]`` judges them alone.
      missing: reasons why the claim cannot be judged, a few words each.
      criteria: boundaries and confidence.
    """
    primal, dual = change
    used = ~runs.diverged & np.isfinite(primal.ratio) & np.isfinite(dual.ratio)
    status, parts = judge_convergence(primal.of(used), dual.of(used), criteria)
    missing = [*_too_few(int(used.sum()), criteria.min_seeds), *missing]
    floored = int((used & np.any([*primal[2:], *dual[2:]], axis=0)).sum())
    passing = None
    if gate.passes is not None:
        rows = used & gate.passes
        chosen, again = judge_convergence(primal.of(rows), dual.of(rows), criteria)
        enough = not missing and rows.sum() >= criteria.min_seeds
        passing = {"runs": int(rows.sum()), "status": chosen if enough else "undecided"}
        passing |= _intervals(again)
    if missing:
        status = "undecided"
    sentences = [
        *_convergence_sentences(status, parts, missing, runs.players),
        *_counts(used, floored, passing),
    ]
    return Verdict(
        claim=f"only the {runs.players.primal} converges",
        cell=runs.cell,
        setting=runs.setting,
        status=status,
        effect=parts["primal"].effect,
        interval=(parts["primal"].low, parts["primal"].high),
        sentence=" ".join(sentences),
        numbers={
            "measure": f"late over early norm of the {runs.players.primal}, geometric mean",
            **_intervals(parts),
            "boundaries": {name: part.boundary for name, part in parts.items()},
            "runs": int(used.sum()),
            "left_out": int((~used).sum()),
            "floored": floored,
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
    """The verdict "the one-sided MVI holds late in the run".

    Args:
      runs: runs that differ only in the seed.
      tests: tests of the runs that did not diverge.
      x_star: ``"known"`` or ``"end of the run"``; only for the latter, the controls must fail.
      missing: reasons why the claim cannot be judged, a few words each.
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
    alive = int((~runs.diverged).sum())
    missing = [*_too_few(alive, criteria.min_seeds), *missing]
    if missing:
        status = "undecided"
    cosine = t_interval(cosines, level=criteria.confidence)
    middles = [np.median(t.necessary[np.isfinite(t.necessary)]) for t in tests if _known(t)]
    necessary = t_interval(middles, level=criteria.confidence)
    sentences = [_minty_sentence(status, part, fault, missing)]
    if not math.isnan(cosine.mean):
        sentences.append(f"The mean cosine is {span(*cosine)}.")
    if x_star != "known" and not math.isnan(necessary.mean):
        sentences.append(
            f"The gradient at x* is {span(*necessary)} of that on the path;"
            " the inequality at every x near x* asks for 0."
        )
    if x_star != "known" and status == "supported":
        sentences.append(f"The {runs.players.primal} passes too if it only drifts towards x*.")
    return Verdict(
        claim="the one-sided MVI holds late in the run",
        cell=runs.cell,
        setting=runs.setting,
        status=status,
        effect=part.effect,
        interval=(part.low, part.high),
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


def _too_few(count: int, needed: int) -> list[str]:
    return [] if count >= needed else [f"{count} seed{'s' * (count != 1)}, {needed} needed"]


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
        why = f"Undecided: {'; '.join(missing)}."
        both = f"T{said['primal'][1:]}, the {dual}'s {parts['dual']}."
        return [why] if math.isnan(parts["primal"].effect) else [why, both]
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


def _known(test: MintyTest) -> bool:
    return bool(np.isfinite(test.necessary).any())


def _counts(used: Mask, floored: int, passing: Mapping[str, Any] | None) -> list[str]:
    """Sentences on the runs that are left out, at a noise floor, or pass the quality gate."""
    out, runs, lost = [], int(used.sum()), int((~used).sum())
    if lost:
        be = "is" if lost == 1 else "are"
        out.append(f"{lost} of {used.size} runs diverged and {be} left out.")
    if floored:
        some = f"{floored} run{'s' * (floored != 1)}"
        out.append(f"In {some} a norm is below its noise floor and counts as the floor.")
    if passing is not None:
        passed = passing["runs"]
        does = "counts" if passed >= SUCCESSFUL * max(runs, 1) else "does not count"
        out.append(f"{passed} of {runs} runs pass the quality gate: training {does} as successful.")
    return out


def _intervals(parts: dict[str, Part]) -> dict[str, Any]:
    return {name: [part.effect, part.low, part.high] for name, part in parts.items()}


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
