r"""Squared norms of noisy gradients: pure functions in NumPy float64.

* The squared norm :math:`\|g\|^2` of an expected gradient, from the Gram matrix of K microbatch
  gradients: U-statistic (Hoeffding 1948), jackknife standard error (Quenouille 1956, Tukey 1958).
* The change of that norm along a run: medians over an early and a late window.

NaN means "no number".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "NOISE_FLOOR",
    "TINY",
    "Array",
    "Change",
    "Mask",
    "SquaredNorm",
    "below_noise_floor",
    "change_of_norm",
    "exact_squared_norm",
    "norm_and_limit",
    "squared_norm",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TINY = float(np.finfo(np.float64).tiny)  # the smallest positive normal float64
NOISE_FLOOR = 2.0  # standard errors
_RELATIVE_FLOOR = 1e-12  # of a late norm relative to the early one, because it may reach 0


class SquaredNorm(NamedTuple):
    r"""Estimate of the squared norm of an expected gradient; all fields have one shape ``[...]``.

    Attributes:
      value: unbiased estimate of :math:`\|g\|^2`. It may be negative: clipping would bias averages.
      standard_error: jackknife error of ``value`` over microbatches, which is conservative; 0 if
        exact.
    """

    value: Array
    standard_error: Array


def squared_norm(gram: ArrayLike) -> SquaredNorm:
    r"""Squared norm of an expected gradient, with its error, from K microbatch gradients.

    One minibatch gradient overestimates the norm: :math:`E\|\bar g\|^2 = \|g\|^2 +
    \mathrm{tr}\Sigma / K`; for a large network the second term dominates. The U-statistic has no
    such bias. It and the jackknife need the Gram matrix only.

    Args:
      gram: inner products of the microbatch gradients, ``[..., K, K]``, K >= 3.

    Returns:
      `SquaredNorm` of arrays ``[...]``. Non-finite entries give NaN.

    Raises:
      ValueError: if the last two axes are not square, or K < 3, because leaving one gradient out
        must leave two.

    Example:
      >>> import numpy as np
      >>> gradients = 1.0 + np.random.default_rng(0).normal(size=(32, 4))
      >>> norm = squared_norm(gradients @ gradients.T)  # the truth: 4, noise trace 4
      >>> bool(abs(norm.value - 4) < 2 * norm.standard_error)
      True
    """
    gram = np.asarray(gram, np.float64)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2] or gram.shape[-1] < 3:
        raise ValueError(f"gram of shape {gram.shape}: expected [..., K, K] with K >= 3")
    count = gram.shape[-1]
    with np.errstate(all="ignore"):
        own = np.diagonal(gram, axis1=-2, axis2=-1)
        off_diagonal = gram.sum(-1) - own  # [..., K]: sum over l != k of <g_k, g_l>
        value = off_diagonal.sum(-1) / (count * (count - 1))
        leave_one_out = off_diagonal.sum(-1, keepdims=True) - 2 * off_diagonal
        leave_one_out /= (count - 1) * (count - 2)
        spread = leave_one_out - leave_one_out.mean(-1, keepdims=True)
        standard_error = np.sqrt((count - 1) / count * (spread**2).sum(-1))
        return SquaredNorm(value, standard_error)


def exact_squared_norm(squared: ArrayLike) -> SquaredNorm:
    """Wraps squared norms ``[...]`` of a deterministic field, with errors of 0."""
    value = np.asarray(squared, np.float64)
    return SquaredNorm(value, np.zeros_like(value))


def below_noise_floor(norm: SquaredNorm) -> Mask:
    """Marks squared norms that are too uncertain to report: below two standard errors.

    An exact value is never marked. NaN is marked, unless its error is 0.

    Example:
      >>> import numpy as np
      >>> below_noise_floor(SquaredNorm(np.array([1.9, 2.1]), np.ones(2)))
      array([ True, False])
    """
    return ~(norm.value >= NOISE_FLOOR * norm.standard_error) & ~(norm.standard_error == 0)


def norm_and_limit(norm: SquaredNorm) -> tuple[Array, Array]:
    """Returns norms, NaN below the noise floor; and upper limits, NaN above the noise floor.

    Example:
      >>> norm_and_limit(SquaredNorm(np.array([9.0, 2.0]), np.array([1.0, 7.0])))
      (array([ 3., nan]), array([nan,  4.]))
    """
    floored = below_noise_floor(norm)
    above = np.maximum(norm.value, 0.0)
    limit = np.sqrt(above + NOISE_FLOOR * norm.standard_error)
    return np.where(floored, np.nan, np.sqrt(above)), np.where(floored, limit, np.nan)


class Change(NamedTuple):
    """A player's gradient norm early and late in training, per run; all fields are ``[R]``.

    Attributes:
      early: norm in the early window, or its floor if that is larger.
      late: norm in the late window, or its floor if that is larger.
      early_floored: whether ``early`` is a floor, so that ``ratio`` is a lower bound.
      late_floored: whether ``late`` is a floor, so that ``ratio`` is an upper bound.
    """

    early: Array
    late: Array
    early_floored: Mask
    late_floored: Mask

    @property
    def ratio(self) -> Array:
        """Late norm divided by early norm; NaN if either is NaN."""
        with np.errstate(all="ignore"):
            return self.late / self.early

    def of(self, runs: NDArray[Any]) -> Change:
        """Selects runs by a mask or by indices."""
        return Change(
            self.early[runs], self.late[runs], self.early_floored[runs], self.late_floored[runs]
        )


def change_of_norm(
    norm: SquaredNorm, early: ArrayLike, late: ArrayLike, *, floor: ArrayLike = TINY
) -> Change:
    r"""Norms in two windows of checkpoints: square roots of the medians of U.

    Medians are used, because the norm of a discriminator's gradient varies by a factor 10 between
    checkpoints. A median below two standard errors is replaced by two standard errors.

    Args:
      norm: U-statistics with their errors, ``[R, S]``.
      early: checkpoints of the early window, ``bool[S]``.
      late: checkpoints of the late window, ``bool[S]``.
      floor: squared norms below it are rounding, ``[R]`` or one number. Without a floor, a ratio of
        two rounding errors would look like "does not fall". A late norm is also at least 1e-12 of
        the early one.

    Returns:
      :class:`Change`; NaN for a run with a non-finite U in a window.

    Example:
      >>> norm = exact_squared_norm([[4.0, 4.0, 1.0, 9.0, 1.0]])
      >>> change_of_norm(norm, [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]).ratio.tolist()
      [0.5]
    """
    windows = (np.asarray(window, bool) for window in (early, late))
    medians = [
        [np.median(part[..., window], axis=-1) for part in (norm.value, norm.standard_error)]
        for window in windows
    ]
    with np.errstate(invalid="ignore"):
        (first, first_floor), (last, last_floor) = (
            (value, np.maximum(NOISE_FLOOR * error, np.maximum(floor, TINY)))
            for value, error in medians
        )
        last_floor = np.maximum(last_floor, _RELATIVE_FLOOR**2 * first)
        return Change(
            np.sqrt(np.maximum(first, first_floor)),
            np.sqrt(np.maximum(last, last_floor)),
            first < first_floor,
            last < last_floor,
        )
