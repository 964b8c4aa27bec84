"""What a set of runs says about a claim: a verdict that can fail, and the rules of all.

A claim holds, is refuted, or is ``"inconclusive"``; the thresholds are those of
`onesided_jax.runs.criteria.Criteria`, fixed before the run. Rules that no threshold expresses:

* An interval is Student's over seeds. Between the two thresholds, or across one, nothing is judged.
* A diverged seed is left out and counted. A seed that *gives no number* (below the noise floor) is
  never left out: the interval of the statistic it lacks has no limits, so that nothing can be
  supported or refuted with it. Dropping it would select seeds by the very quantity under test: a
  discriminator below the noise floor is one whose gradient fell.
* A control that was not run cannot support a claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.inference import Interval, t_interval
from onesided_jax.runs.criteria import Criteria

__all__ = ["Holds", "Verdict", "all_hold", "decide", "interval_over_seeds", "span", "too_few"]

Holds = bool | Literal["inconclusive"]

_MEASURES = {
    "one_sided_convergence": "late over early gradient norm of the primal player, mean over seeds",
    "one_sided_mvi": "share of significantly negative entries off the diagonal, mean over seeds",
}


class Verdict(NamedTuple):
    """What a set of runs says about one claim.

    Attributes:
      claim: ``"one_sided_convergence"`` or ``"one_sided_mvi"``.
      optimizer: name of the arm.
      holds: True, False or ``"inconclusive"``.
      value: the most telling number; mean over seeds, NaN if some seed gives none.
      ci_low: lower end of its interval over seeds.
      ci_high: upper end.
      runs: seeds the verdict rests on.
      hyperparameters: of the arm.
      reason: one sentence: what was measured, and why this verdict.
      details: the sub-criteria, each with ``"holds"`` and its statistics; ``"not_judged"`` says in
        short what was missing for a judgement, and is empty where there was one.
    """

    claim: str
    optimizer: str
    holds: Holds
    value: float
    ci_low: float
    ci_high: float
    runs: int
    hyperparameters: Mapping[str, Any]
    reason: str
    details: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON types: its fields, and ``measure``, what ``value`` is in words.

        Numbers that are not finite become None.

        Example:
          >>> nan = float("nan")
          >>> v = Verdict("c", "adam", "inconclusive", nan, nan, nan, 0, {"b1": 0.5}, "Few.", {})
          >>> v.to_json()["value"] is None, v.to_json()["hyperparameters"]
          (True, {'b1': 0.5})
        """
        return _json({**self._asdict(), "measure": _MEASURES.get(self.claim, "")})


def interval_over_seeds(values: ArrayLike, criteria: Criteria) -> Interval:
    """Interval over seeds; without limits, and without a mean, if any seed gives no number."""
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        return Interval(math.nan, math.nan, math.nan)
    return t_interval(values, level=criteria.level)


def decide(enough: bool, *, supported: bool, refuted: bool) -> Holds:
    """Inconclusive with too few seeds, and where neither rule or both are met."""
    if not enough or supported == refuted:
        return "inconclusive"
    return supported


def all_hold(holds: list[Holds]) -> Holds:
    """Refuted by one part, supported by all."""
    if False in holds:
        return False
    return True if all(h is True for h in holds) else "inconclusive"


def span(interval: Interval) -> str:
    """A mean with its limits, as words."""
    if math.isnan(interval.mean):
        return "unknown"
    limits = f" [{interval.low:.3g}, {interval.high:.3g}]" if not math.isnan(interval.low) else ""
    return f"{interval.mean:.3g}{limits}"


def too_few(count: int, what: str, needed: int) -> str:
    """Why nothing was judged, in short.

    Example:
      >>> too_few(1, "seed", 5)
      '1 seed, 5 needed'
    """
    return f"{count} {what}{'s' * (count != 1)}, {needed} needed"


def _json(value: Any) -> Any:
    if isinstance(value, Interval):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
