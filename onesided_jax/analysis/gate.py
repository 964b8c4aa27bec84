"""The quality gate: was a run's training successful? Fixed thresholds; a reason for every no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import Array, Mask, members
from onesided_jax.runs.criteria import Criteria

__all__ = ["Gate", "gate_of_runs", "no_gate", "quality_gate"]


class Gate(NamedTuple):
    """Which runs were trained successfully.

    Attributes:
      passes: ``bool[R]``; None where no gate was evaluated.
      reasons: per run why it does not pass, ``""`` where it does.
      note: what was not evaluated and why, as part of a sentence; ``""`` if everything was.
      limits: the thresholds that follow from the runs and criteria, by measure.
    """

    passes: Mask | None
    reasons: Sequence[str]
    note: str
    limits: Mapping[str, float]


def no_gate(note: str = "none was asked for") -> Gate:
    """The gate that was not evaluated, and why."""
    return Gate(None, (), note, {})


def gate_of_runs(gate: Gate, rows: ArrayLike) -> Gate:
    """The same gate for some of its runs, by their indices."""
    if gate.passes is None:
        return gate
    chosen = [gate.reasons[i] for i in np.atleast_1d(rows)]
    return gate._replace(passes=gate.passes[np.atleast_1d(rows)], reasons=chosen)


def quality_gate(
    measures: Mapping[str, ArrayLike],
    *,
    criteria: Criteria,
    arms: ArrayLike | None = None,
    diverged: ArrayLike | None = None,
) -> Gate:
    """Judges the samples of runs by the thresholds of :class:`onesided_jax.runs.Criteria`.

    A mixture needs enough modes covered and enough high-quality samples. Images need enough class
    entropy and a Fréchet distance that is small in two ways: relative to the best arm's median over
    its runs, and in absolute terms, below ``gate_frechet_factor`` times a reference that the
    criteria state. Without a reference the best arm cannot fail as a whole, and the note says so.
    Where every arm lost half of its runs or more there is no best arm, and no run passes.

    Args:
      measures: of every run, ``f[R]`` each, means over evaluation seeds: ``modes`` and
        ``high_quality``, or ``frechet`` and ``class_entropy`` (others are ignored). NaN where a run
        has no finite samples; it fails then.
      criteria: thresholds.
      arms: which runs differ in the seed only, ``int[R]``; None if all do.
      diverged: ``bool[R]``; a diverged run fails, and counts as infinitely far away in the median
        of its arm.

    Returns:
      :class:`Gate`.

    Raises:
      ValueError: if the measures are those of neither.

    Example:
      >>> gate = quality_gate(
      ...     {"frechet": [0.10, 0.12, 0.9], "class_entropy": [0.99, 0.70, 0.95]},
      ...     criteria=Criteria(gate_frechet_reference=0.1),
      ... )
      >>> gate.passes.tolist()
      [True, False, False]
      >>> gate.reasons[1]
      'class entropy 0.7 is below 0.9 log C'
    """
    found = {name: np.asarray(v, np.float64) for name, v in measures.items()}
    for needed, judge in (
        (("modes", "high_quality"), _judge_mixture),
        (("frechet", "class_entropy"), _judge_images),
    ):
        if all(name in found for name in needed):
            size = found[needed[0]].size
            lost = np.zeros(size, bool) if diverged is None else np.asarray(diverged, bool)
            arm = np.zeros(size, int) if arms is None else np.asarray(arms)
            missing = ~np.all(np.isfinite([found[name] for name in needed]), axis=0)
            failures, note, limits = judge(found, arm, lost | missing, criteria)
            reasons = [
                "the run diverged"
                if lost[i]
                else "its samples are not finite numbers"
                if missing[i]
                else "; ".join(text[i] for text in failures if text[i])
                for i in range(size)
            ]
            return Gate(np.array([not reason for reason in reasons]), reasons, note, limits)
    raise ValueError(
        f"measures {sorted(found)}: expected modes and high_quality, or frechet and class_entropy"
    )


_Judged = tuple[list[list[str]], str, dict[str, float]]


def _judge_mixture(
    found: Mapping[str, Array], arms: np.ndarray, bad: Mask, criteria: Criteria
) -> _Judged:
    limits = {"modes": criteria.gate_modes, "high_quality": criteria.gate_high_quality}
    failures = [
        _below(found["modes"], limits["modes"], "{:.1%} of the modes are covered, below {:.0%}"),
        _below(
            found["high_quality"],
            limits["high_quality"],
            "{:.1%} of the samples are of high quality, below {:.0%}",
        ),
    ]
    return failures, "", limits


def _judge_images(
    found: Mapping[str, Array], arms: np.ndarray, bad: Mask, criteria: Criteria
) -> _Judged:
    frechet = np.where(bad, np.inf, found["frechet"])
    medians = [float(np.median(frechet[arm])) for arm in members(arms)]
    best = min(medians)
    limits = {"class_entropy": criteria.gate_class_entropy}
    if np.isfinite(best):
        relative = criteria.gate_frechet_ratio * best
        limits |= {"best_frechet": best, "frechet_relative": relative}
        times = f"{criteria.gate_frechet_ratio:.3g} times the best arm's median"
        failures = [
            _above(frechet, relative, f"Fréchet distance {{:.3g}} is above {{:.3g}}, {times}")
        ]
    else:
        failures = [
            ["no arm has a median to compare with: half or more of its runs are lost"] * arms.size
        ]
    note = ""
    if criteria.gate_frechet_reference is None:
        alone = "the only arm is compared with itself"
        note = (
            "the absolute part of the gate was not evaluated, because the criteria state no"
            " reference Fréchet distance: "
            + (alone if len(medians) == 1 else "arms are compared with each other alone")
        )
    else:
        absolute = criteria.gate_frechet_factor * criteria.gate_frechet_reference
        limits["frechet_absolute"] = absolute
        failures.append(
            _above(
                frechet,
                absolute,
                f"Fréchet distance {{:.3g}} is above {{:.3g}}, {criteria.gate_frechet_factor:.3g}"
                " times the stated reference",
            )
        )
    failures.append(
        _below(
            found["class_entropy"],
            criteria.gate_class_entropy,
            "class entropy {:.4g} is below {:.4g} log C",
        )
    )
    return failures, note, limits


def _below(values: Array, limit: float, text: str) -> list[str]:
    return ["" if value >= limit else text.format(value, limit) for value in values]


def _above(values: Array, limit: float, text: str) -> list[str]:
    return ["" if value <= limit else text.format(value, limit) for value in values]
