"""The rules that turn numbers per seed into a status, with one boundary per statistic.

Intervals are Student's intervals over seeds. Ratios are judged on the log scale, where one outlier
has less weight. A claim is supported if the intervals of all its statistics lie on the right side
of their boundaries. It is refuted if an interval lies on the wrong side; for this, intervals are
widened for the number of statistics. Diverged seeds are left out and counted.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from onesided_jax.analysis.estimators import Array, Change, Mask
from onesided_jax.analysis.inference import Interval, t_interval
from onesided_jax.runs import Criteria

__all__ = ["Part", "Status", "judge_convergence", "judge_negative_mass", "judge_ratio", "span"]

Status = Literal["supported", "refuted", "undecided"]


class Part(NamedTuple):
    """One statistic and its boundary.

    Attributes:
      effect: mean over seeds; geometric for a ratio.
      low: lower limit at the criteria's confidence.
      high: upper limit.
      boundary: where the claim begins to hold.
      side: ``"right"``, ``"wrong"`` or ``"open"``.
      bounded: whether ``side`` is open because most seeds give only a bound (a norm at its floor).
    """

    effect: float
    low: float
    high: float
    boundary: float
    side: str
    bounded: bool = False

    def __str__(self) -> str:
        return span(self.effect, self.low, self.high)

    def percent(self) -> str:
        """The effect and its limits in percent.

        Example:
          >>> Part(0.98, 0.9, 1.0, 0.1, "wrong").percent()
          '98% [90%, 100%]'
        """
        effect, low, high = (100 * value for value in (self.effect, self.low, self.high))
        return span(effect, low, high, "{:.0f}%" if max(effect, high) >= 99.5 else "{:.2g}%")


def judge_convergence(
    primal: Change, dual: Change, criteria: Criteria
) -> tuple[Status, dict[str, Part]]:
    """Judges whether only the primal player converges, by three statistics over the same seeds.

    Args:
      primal: the primal player's norms, ``[n]``; no NaN.
      dual: the dual player's norms, ``[n]``; no NaN.
      criteria: boundaries and confidence; ``min_seeds`` is not used.

    Returns:
      The status, and a :class:`Part` for each ratio: ``"primal"`` (must be below its boundary),
      ``"dual"`` (above) and ``"parting"`` (dual divided by primal, above).

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


def judge_ratio(change: Change, boundary: float, criteria: Criteria) -> tuple[Status, Part]:
    """Judges whether a ratio, such as one method's norms over another's, is below its boundary.

    Args:
      change: two numbers per seed, denominator ``early`` and numerator ``late``; no NaN.
      boundary: the claim holds below it.
      criteria: confidence.

    Example:
      >>> import numpy as np
      >>> no = np.zeros(3, bool)
      >>> pairs = Change(np.ones(3), np.array([0.7, 0.8, 0.75]), no, no)
      >>> status, part = judge_ratio(pairs, 1.0, Criteria())
      >>> status, str(part)
      ('supported', '0.749 [0.634, 0.884]')
    """
    bounds = (change.early_floored, change.late_floored)
    part = _part(np.log(change.ratio), boundary, True, bounds, criteria, parts=1)
    statuses: dict[str, Status] = {"right": "supported", "wrong": "refuted"}
    return statuses.get(part.side, "undecided"), part


def _part(
    logs: Array,
    boundary: float,
    below: bool,
    bounds: tuple[Mask, Mask],
    criteria: Criteria,
    parts: int = 3,
) -> Part:
    """Judges one of ``parts`` statistics; with ``below``, the claim holds below the boundary.

    ``bounds`` marks seeds that give only a lower bound, and seeds that give only an upper bound.
    The statistic is open if most true values may therefore lie on the other side.
    """
    narrow = t_interval(logs, level=criteria.confidence)
    wide = t_interval(logs, level=1 - (1 - criteria.confidence) / parts)
    line = math.log(boundary)
    right, wrong = narrow.high < line, wide.low > line
    lower, upper = (bool(bound.size) and bound.mean() > 0.5 for bound in bounds)
    if not below:
        right, wrong = narrow.low > line, wide.high < line
        lower, upper = upper, lower
    bounded = bool((right and lower) or (wrong and upper))
    side = "open" if bounded or not (right or wrong) else "right" if right else "wrong"
    with np.errstate(over="ignore"):
        effect = Interval(*np.exp(narrow).tolist())
    return Part(effect.mean, effect.low, effect.high, boundary, side, bounded)


def judge_negative_mass(
    masses: Array, noise: Array, controls: dict[str, float], criteria: Criteria
) -> tuple[Status, Part, str]:
    """Judges whether the one-sided MVI holds, by the mean negative mass over seeds.

    Noise adds negative entries, so it could refute the claim. The claim is therefore only refuted
    if noise alone would give a negative mass below the boundary.

    Args:
      masses: negative mass per seed, ``[n]``.
      noise: the negative mass that noise alone would give, ``[n]``.
      controls: mean negative mass of each control that must fail; empty if none is needed.
      criteria: boundary and confidence; ``min_seeds`` is not used.

    Returns:
      Status, statistic, and the reason if it is undecided although the interval lies on one side,
      else ``""``.

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


def span(mean: float, low: float, high: float, form: str = "{:.3g}") -> str:
    """Formats a mean with its limits.

    Example:
      >>> span(0.25, 0.2, 0.3), span(0.25, float("nan"), 0.3)
      ('0.25 [0.2, 0.3]', '0.25')
    """
    if math.isnan(mean):
        return "unknown"
    limits = "" if math.isnan(low) else f" [{form.format(low)}, {form.format(high)}]"
    return form.format(mean) + limits
