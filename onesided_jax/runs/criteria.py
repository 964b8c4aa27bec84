"""Criteria: all numbers that verdicts depend on, fixed before a sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RETIRED", "Criteria", "in_window"]

RETIRED = {
    "level": "confidence",
    "primal_ratio_supported": "generator_falls",
    "primal_ratio_refuted": "generator_falls",
    "dual_ratio_supported": "discriminator_stays",
    "dual_ratio_refuted": "discriminator_stays",
    "ratio_of_ratios": "parting",
    "ratio_of_ratios_share": "parting",
    "mvi_negative_supported": "negative_mass",
    "mvi_negative_refuted": "negative_mass",
    "mvi_positive_supported": "negative_mass",
    "gate_frechet_ratio": "gate_frechet",
    "gate_frechet_factor": "gate_frechet",
    "gate_frechet_reference": "gate_frechet",
    "slope_window": "",
    "slope_bins": "",
    "dual_slope_supported": "",
    "min_gate_seeds": "",
    "alpha": "",
    "random_targets": "",
    "fresh_duals": "",
    "mvi_valid_share": "",
    "held_out_fraction": "",
    "truncation_factor": "",
}
"""Fields of version 0.1, and the field that replaced each; empty if none did."""

_WINDOWS = ("early_window", "late_window")
_BELOW_1 = ("negative_mass", "confidence")
_SHARES = ("gate_modes", "gate_high_quality", "gate_class_entropy")
_POSITIVE = ("generator_falls", "discriminator_stays", "parting", "gate_frechet")
_INTEGERS = {  # name: smallest value that leaves the statistic defined
    "min_seeds": 2,
    "microbatches": 3,
    "mvi_rows": 3,
    "mvi_samples": 2,
    "quality_samples": 100,
    "quality_seeds": 2,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criteria:
    """Windows, boundaries and sample sizes of the verdicts (docs/theory, "Criteria").

    Each claim has one boundary per statistic. ``R`` is a player's late gradient norm divided by its
    early gradient norm. Windows are fractions of the number of steps. The field names are those of
    a GAN; in other games read "primal player" for generator and "dual player" for discriminator.

    Attributes:
      early_window: window of the early gradient norm.
      late_window: window of the late gradient norm.
      generator_falls: the generator converges if its ``R`` is below this.
      discriminator_stays: the discriminator does not converge if its ``R`` is above this.
      parting: the players part if the ratio of the discriminator's ``R`` to the generator's is
        above this.
      negative_mass: the one-sided MVI holds if negative entries make up less than this share of
        the sum of absolute values of the cross matrix.
      confidence: coverage of the intervals.
      min_seeds: with fewer seeds, every verdict is undecided.
      gate_modes: quality gate of a mixture: at least this share of the modes is covered.
      gate_high_quality: quality gate of a mixture: at least this share of the samples lies within
        3 standard deviations of a mode.
      gate_frechet: quality gate of images: the Fréchet distance is at most this.
      gate_class_entropy: quality gate of images: the entropy of the predicted classes is at least
        this share of its maximum, ``log C``.
      microbatches: minibatch gradients per estimate of a gradient norm.
      mvi_rows: maximum number of rows, and of columns, of the cross matrix.
      mvi_samples: samples per entry of the cross matrix.
      quality_samples: samples per evaluation seed of a generator's quality.
      quality_seeds: evaluation seeds; the gate judges their mean.

    Raises:
      ValueError: for an invalid value; names the field, the value and the expected values.

    Example:
      Criteria can be read back from JSON, because lists become tuples:

      >>> import dataclasses, json
      >>> text = json.dumps(dataclasses.asdict(Criteria(min_seeds=8)))
      >>> Criteria(**json.loads(text)) == Criteria(min_seeds=8)
      True
      >>> Criteria(confidence=95)
      Traceback (most recent call last):
          ...
      ValueError: Criteria.confidence = 95: expected a number strictly between 0 and 1
    """

    early_window: tuple[float, float] = (0.05, 0.10)
    late_window: tuple[float, float] = (0.80, 1.00)
    generator_falls: float = 0.5
    discriminator_stays: float = 0.5
    parting: float = 2.0
    negative_mass: float = 0.10
    confidence: float = 0.95
    min_seeds: int = 3
    gate_modes: float = 0.9
    gate_high_quality: float = 0.8
    gate_frechet: float = 0.10
    gate_class_entropy: float = 0.95
    microbatches: int = 32
    mvi_rows: int = 12
    mvi_samples: int = 256
    quality_samples: int = 10_000
    quality_seeds: int = 3

    def __post_init__(self) -> None:
        for name in _WINDOWS:
            self._check_window(name)
        for name in _BELOW_1:
            self._check(name, lambda v: 0 < v < 1, "a number strictly between 0 and 1")
        for name in _SHARES:
            self._check(name, lambda v: 0 < v <= 1, "a share above 0 and at most 1")
        for name in _POSITIVE:
            self._check(name, lambda v: 0 < v < math.inf, "a finite number above 0")
        for name, least in _INTEGERS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                self._fail(name, f"an integer, at least {least}")
        if self.early_window[1] > self.late_window[0]:
            self._fail("early_window", f"to end before late_window {self.late_window} begins")

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


def in_window(
    steps: ArrayLike, window: tuple[float, float], total_steps: float
) -> NDArray[np.bool_]:
    """Marks the steps inside a window of a run, both ends included.

    Example:
      >>> in_window([0, 5, 10, 11], (0.05, 0.10), 100).tolist()
      [False, True, True, False]
    """
    steps = np.asarray(steps)
    return (steps >= window[0] * total_steps) & (steps <= window[1] * total_steps)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
