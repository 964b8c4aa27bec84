"""The quality gate: decides by fixed limits whether training was successful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import Mask
from onesided_jax.runs import Criteria

__all__ = ["Gate", "gate_limits", "quality_gate", "why_no_gate"]

_KINDS = (("modes", "high_quality"), ("frechet", "class_entropy"))
_WORDS = {
    "modes": "{:.1%} of the modes are covered, below {:.0%}",
    "high_quality": "{:.1%} of the samples are of high quality, below {:.0%}",
    "frechet": "Fréchet distance {:.3g} is above {:.3g}",
    "class_entropy": "class entropy {:.4g} is below {:.4g} log C",
}


class Gate(NamedTuple):
    """Which runs were trained successfully.

    Attributes:
      passes: ``bool[R]``; None without a gate.
      reasons: why each run fails; ``""`` if it passes.
    """

    passes: Mask | None = None
    reasons: Sequence[str] = ()

    def of(self, rows: ArrayLike) -> Gate:
        """Selects runs by indices."""
        if self.passes is None:
            return self
        chosen = np.atleast_1d(rows)
        return Gate(self.passes[chosen], [self.reasons[int(i)] for i in chosen])


def why_no_gate(about: Mapping[str, Any], criteria: Criteria) -> str:
    """Why there is no gate for these real data, or ``""``."""
    if about["quality_kind"] == "unlabelled":
        return "the data have no labels"
    entropy = about.get("quality_class_entropy_of_data", 1.0)
    if entropy < criteria.gate_class_entropy:
        return f"the real data's own class entropy, {entropy:.3g} log C, would not pass it"
    return ""


def gate_limits(measures: Mapping[str, ArrayLike], criteria: Criteria) -> dict[str, float]:
    """Measure to limit, for the gate of these measures; empty if there is none.

    Example:
      >>> gate_limits({"frechet": [], "class_entropy": []}, Criteria())
      {'frechet': 0.1, 'class_entropy': 0.95}
    """
    for names in _KINDS:
        if all(name in measures for name in names):
            return {name: getattr(criteria, f"gate_{name}") for name in names}
    return {}


def quality_gate(
    measures: Mapping[str, ArrayLike], *, criteria: Criteria, diverged: ArrayLike | None = None
) -> Gate:
    """Judges the samples of each run by the limits of :class:`onesided_jax.runs.Criteria`.

    A mixture needs enough modes covered and enough high-quality samples. Images need a small
    Fréchet distance and enough class entropy.

    Args:
      measures: means over evaluation seeds, ``f[R]`` each: ``modes`` and ``high_quality``, or
        ``frechet`` and ``class_entropy``; others are ignored. NaN (samples not finite) fails.
      criteria: limits.
      diverged: ``bool[R]``; a diverged run fails.

    Raises:
      ValueError: if both pairs of measures are incomplete.

    Example:
      >>> gate = quality_gate(
      ...     {"frechet": [0.10, 0.05, 0.9], "class_entropy": [0.99, 0.70, 0.95]},
      ...     criteria=Criteria(),
      ... )
      >>> gate.passes.tolist()
      [True, False, False]
      >>> gate.reasons[1]
      'class entropy 0.7 is below 0.95 log C'
    """
    limits = gate_limits(measures, criteria)
    if not limits:
        raise ValueError(
            f"measures {sorted(measures)}: expected modes and high_quality, or frechet and"
            " class_entropy"
        )
    values = {name: np.asarray(measures[name], np.float64) for name in limits}
    size = next(iter(values.values())).size
    lost = np.zeros(size, bool) if diverged is None else np.asarray(diverged, bool)
    reasons = []
    for run in range(size):
        own = {name: float(value[run]) for name, value in values.items()}
        failures = [
            _WORDS[name].format(value, limits[name])
            for name, value in own.items()
            if (value > limits[name] if name == "frechet" else value < limits[name])
        ]
        if lost[run]:
            failures = ["the run diverged"]
        elif not np.isfinite(list(own.values())).all():
            failures = ["its samples are not finite numbers"]
        reasons.append("; ".join(failures))
    return Gate(np.array([not reason for reason in reasons], bool), reasons)
