"""The rules: from measured numbers per seed to a status, with one boundary per statistic.

Ratios are judged on the log scale, where one seed out of line cannot outweigh the others. An
interval is Student's over seeds. A claim that needs several boundaries is supported if every
interval lies on the right side. It is refuted if any interval, widened for their number, lies
wholly on the wrong side. A diverged seed is left out and counted.
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
      bounded: whether it is open because most seeds give only a bound: a norm was at its floor.
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
        """The effect of a share, in percent.

        Example:
          >>> Part(0.98, 0.9, 1.0, 0.1, "wrong").percent()
          '98% [90%, 100%]'
        """
        effect, low, high = (100 * value for value in (self.effect, self.low, self.high))
        return span(effect, low, high, "{:.0f}%" if max(effect, high) >= 99.5 else "{:.2g}%")


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


def judge_ratio(change: Change, boundary: float, criteria: Criteria) -> tuple[Status, Part]:
    """Is a ratio below its boundary? One statistic, such as one method's norms over another's.

    Args:
      change: the two numbers of each seed, ``early`` below and ``late`` above; no NaN.
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
    """One statistic of several; a seed that gives only a bound must not carry the side it favours.

    ``bounds``: where a seed's value is a lower bound, and where an upper one.
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


def span(mean: float, low: float, high: float, form: str = "{:.3g}") -> str:
    """A mean with its limits, as words.

    Example:
      >>> span(0.25, 0.2, 0.3), span(0.25, float("nan"), 0.3)
      ('0.25 [0.2, 0.3]', '0.25')
    """
    if math.isnan(mean):
        return "unknown"
    limits = "" if math.isnan(low) else f" [{form.format(low)}, {form.format(high)}]"
    return form.format(mean) + limits
