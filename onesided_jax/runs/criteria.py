"""Every number a verdict depends on, in one frozen place that is fixed before a sweep is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

__all__ = ["Criteria"]

_BETWEEN_0_AND_1 = (
    "mvi_negative_supported",
    "mvi_negative_refuted",
    "mvi_positive_supported",
    "level",
    "held_out_fraction",
)
_SHARES = (
    "ratio_of_ratios_share",
    "mvi_valid_share",
    "gate_modes",
    "gate_high_quality",
    "gate_class_entropy",
)
_POSITIVE = (
    "primal_ratio_supported",
    "primal_ratio_refuted",
    "dual_ratio_supported",
    "dual_ratio_refuted",
    "ratio_of_ratios",
    "truncation_factor",
    "gate_frechet_factor",
)
_WINDOWS = ("early_window", "late_window", "slope_window")
_INTEGERS = {  # name: smallest value that leaves the statistic defined
    "slope_bins": 3,
    "min_seeds": 2,
    "min_gate_seeds": 2,
    "random_targets": 1,
    "fresh_duals": 1,
    "mvi_rows": 2,
    "microbatches": 3,
    "mvi_samples": 2,
    "quality_samples": 100,
    "quality_seeds": 2,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criteria:
    r"""Windows, thresholds and sample sizes of the claims P1 to P5 (docs/theory, "Criteria").

    The thresholds are choices of this package, not of the paper. Each claim has one threshold for
    *supported* and one for *refuted*; what lies between them, or an interval that straddles one, is
    *inconclusive*. Calibrate them on pilot seeds only and freeze them before the sweep.

    ``R`` is the ratio of a player's late to early gradient norm, ``alpha`` the log-log slope of
    its squared norm, and windows are fractions of the run's number of steps ``T``.

    Attributes:
      early_window: window of the denominator of ``R``; begins after warm-up.
      late_window: window of the numerator of ``R``.
      slope_window: window of the slope; begins above 0, for a logarithm is taken.
      slope_bins: logarithmically spaced bins inside ``slope_window``.
      primal_ratio_supported: P1 is supported if the upper end of the primal ``R`` is below this
        (and the upper end of the primal slope is below 0).
      primal_ratio_refuted: P1 is refuted if the lower end of the primal ``R`` is above this.
      dual_ratio_supported: P2 is supported if the lower end of the dual ``R`` is above this and
      dual_slope_supported: the lower end of the dual slope is above this (at most 0).
      dual_ratio_refuted: P2 is refuted if the upper end of the dual ``R`` is below this.
      ratio_of_ratios: P3 needs dual ``R`` / primal ``R`` above this (and the lower end of the
        paired slope difference above 0; it is refuted by an upper end below 0)
      ratio_of_ratios_share: in at least this share of the seeds.
      min_seeds: P1 to P3 and P5 are inconclusive with fewer seeds.
      min_gate_seeds: P4 is inconclusive with fewer seeds that pass the quality gate.
      mvi_negative_supported: P5 is supported if the upper end of the fraction of significantly
        negative entries is below this and
      mvi_positive_supported: the lower end of the significantly positive one is at least this.
      mvi_negative_refuted: P5 is refuted if the lower end of the negative one is at least this.
      alpha: size of each one-sided t test of the sign of an entry.
      level: coverage of the seed-wise Student intervals.
      random_targets: random points that stand in for ``x*`` in the null control of P5.
      fresh_duals: freshly initialised dual players in the other null control.
      mvi_rows: least number of rows, and of columns, of the cross matrix.
      mvi_valid_share: least share of the rows of every seed that must survive the truncation.
      held_out_fraction: ``x*`` is the end of the run, and entries are tested only up to this
        fraction of it, so that ``x*`` comes from a held-out continuation.
      microbatches: minibatch gradients per U-statistic.
      mvi_samples: samples per entry of the cross matrix.
      truncation_factor: rows with ``||x_s - x*||`` below this multiple of the distance between two
        admissible ``x*`` (the last iterate, and the mean over the last tenth) are left out: there
        both factors are noise. A player that moves at constant speed is at 6.7 on the last tested
        row, so a factor of 10 would leave no row of it.
      gate_modes: the quality gate of a mixture: at least this share of the modes is covered and
      gate_high_quality: at least this share of the samples lies within 3 standard deviations of
        a mean.
      gate_frechet_ratio: the gate of images: the Fréchet distance is at most this multiple of the
        best arm's median (at least 1),
      gate_frechet_factor: at most this multiple of
      gate_frechet_reference: a distance that a pilot has shown to be good on this data set; None
        leaves this part out, and every verdict says so. And
      gate_class_entropy: the entropy of the predicted classes is at least this share of the
        largest possible one, ``log C``.
      quality_samples: samples per evaluation seed of a generator's quality.
      quality_seeds: evaluation seeds; the gate judges their mean.

    Raises:
      ValueError: naming the field, its value and what was expected.

    Example:
      Lists become tuples, so that criteria survive a round trip through JSON:

      >>> import dataclasses, json
      >>> text = json.dumps(dataclasses.asdict(Criteria(min_seeds=8)))
      >>> Criteria(**json.loads(text)) == Criteria(min_seeds=8)
      True
      >>> Criteria(level=95)
      Traceback (most recent call last):
          ...
      ValueError: Criteria.level = 95: expected a number strictly between 0 and 1
    """

    early_window: tuple[float, float] = (0.05, 0.25)
    late_window: tuple[float, float] = (0.8, 1.0)
    slope_window: tuple[float, float] = (0.1, 1.0)
    slope_bins: int = 20
    primal_ratio_supported: float = 0.5
    primal_ratio_refuted: float = 0.8
    dual_ratio_supported: float = 0.5
    dual_ratio_refuted: float = 0.2
    dual_slope_supported: float = -0.2
    ratio_of_ratios: float = 2.0
    ratio_of_ratios_share: float = 0.8
    min_seeds: int = 5
    min_gate_seeds: int = 3
    mvi_negative_supported: float = 0.05
    mvi_negative_refuted: float = 0.2
    mvi_positive_supported: float = 0.5
    alpha: float = 0.01
    level: float = 0.95
    random_targets: int = 20
    fresh_duals: int = 20
    mvi_rows: int = 20
    mvi_valid_share: float = 0.5
    held_out_fraction: float = 1 / 1.5
    microbatches: int = 32
    mvi_samples: int = 256
    truncation_factor: float = 5.0
    gate_modes: float = 0.9
    gate_high_quality: float = 0.8
    gate_frechet_ratio: float = 1.25
    gate_frechet_factor: float = 3.0
    gate_frechet_reference: float | None = None
    gate_class_entropy: float = 0.9
    quality_samples: int = 10_000
    quality_seeds: int = 3

    def __post_init__(self) -> None:
        for name in _WINDOWS:
            self._check_window(name)
        for name in _BETWEEN_0_AND_1:
            self._check(name, lambda v: 0 < v < 1, "a number strictly between 0 and 1")
        for name in _SHARES:
            self._check(name, lambda v: 0 < v <= 1, "a share above 0 and at most 1")
        for name in _POSITIVE:
            self._check(name, lambda v: 0 < v < math.inf, "a finite number above 0")
        self._check("gate_frechet_ratio", lambda v: 1 <= v < math.inf, "finite and at least 1")
        if self.gate_frechet_reference is not None:
            expectation = "a finite number above 0, or None"
            self._check("gate_frechet_reference", lambda v: 0 < v < math.inf, expectation)
        self._check("alpha", lambda v: 0 < v < 0.5, "a number strictly between 0 and 0.5")
        self._check("dual_slope_supported", lambda v: -math.inf < v <= 0, "finite and at most 0")
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                self._fail(name, f"an integer, at least {least}")
        if self.early_window[1] > self.late_window[0]:
            self._fail("early_window", f"to end before late_window {self.late_window} begins")
        for below, above in (
            ("primal_ratio_supported", "primal_ratio_refuted"),
            ("dual_ratio_refuted", "dual_ratio_supported"),
            ("mvi_negative_supported", "mvi_negative_refuted"),
            ("mvi_negative_refuted", "mvi_positive_supported"),
        ):
            if not getattr(self, below) <= getattr(self, above):
                self._fail(below, f"at most {above} = {getattr(self, above)}")

    def _check_window(self, name: str) -> None:
        expectation = "two fractions (begin, end) with 0 < begin < end <= 1"
        value = getattr(self, name)
        if not isinstance(value, list | tuple) or len(value) != 2:
            self._fail(name, expectation)
        if not all(_is_number(v) for v in value) or not 0 < value[0] < value[1] <= 1:
            self._fail(name, expectation)
        object.__setattr__(self, name, (float(value[0]), float(value[1])))

    def _check(self, name: str, valid: Callable[[float], bool], expectation: str) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not valid(value):
            self._fail(name, expectation)

    def _fail(self, name: str, expectation: str) -> None:
        raise ValueError(f"Criteria.{name} = {getattr(self, name)!r}: expected {expectation}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
