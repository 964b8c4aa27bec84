r"""Squared norms of gradients that are known with noise only: NumPy float64, pure functions.

* The squared norm :math:`\|g\|^2` of an expected gradient, from the Gram matrix of K microbatch
  gradients: U-statistic (Hoeffding 1948), jackknife standard error (Quenouille 1956, Tukey 1958).
* How that norm changes along a run: a ratio of windows and a log-log slope.

What seeds and signs say is in `onesided_jax.analysis.inference`. NaN means "no number" in both:
below the noise floor, or too few data. Nothing is clipped or dropped in silence; each function says
what it does with NaN.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TINY",
    "Array",
    "Mask",
    "SquaredNorm",
    "below_noise_floor",
    "exact_squared_norm",
    "loglog_slope",
    "members",
    "squared_norm",
    "u_statistic",
    "window_ratio",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TINY = float(np.finfo(np.float64).tiny)  # the smallest positive normal float64
_NOISE_FLOOR = 2.0  # standard errors
_MIN_BINS = 3  # with two bins, a straight line fits anything


class SquaredNorm(NamedTuple):
    r"""Estimate of the squared norm of an expected gradient; all fields have one shape ``[...]``.

    Attributes:
      value: unbiased estimate of :math:`\|g\|^2`. It may be negative and is never clipped: clip
        first, and averages are biased.
      standard_error: of ``value``; jackknife over microbatches, which is conservative. 0 if exact.
      noise_trace: estimate of the trace of the covariance of one microbatch gradient. 0 if exact.
      snr: signal to noise, ``value / (noise_trace / K)``. ``inf`` if exact. A value may be known
        well at a small snr: judge by `below_noise_floor`.
    """

    value: Array
    standard_error: Array
    noise_trace: Array
    snr: Array


def u_statistic(gram: ArrayLike) -> Array:
    r"""Unbiased estimate of :math:`\|g\|^2` from the Gram matrix of K >= 2 microbatch gradients.

    .. math:: U = \frac{\|\sum_k g_k\|^2 - \sum_k \|g_k\|^2}{K (K - 1)}

    Args:
      gram: inner products of the microbatch gradients, ``[..., K, K]``.

    Returns:
      ``U``, ``[...]``; for K = 2 it is the inner product of the two gradients.

    Raises:
      ValueError: if the last two axes are not square, or K < 2.

    Example:
      >>> float(u_statistic([[1.0, -0.5], [-0.5, 4.0]]))
      -0.5
    """
    gram = _square(gram, least=2)
    count = gram.shape[-1]
    with np.errstate(all="ignore"):
        return (gram.sum((-2, -1)) - _diagonal(gram).sum(-1)) / (count * (count - 1))


def squared_norm(gram: ArrayLike) -> SquaredNorm:
    r"""Squared norm of an expected gradient, with its error, from K microbatch gradients.

    The norm of one minibatch gradient overestimates: :math:`E\|\bar g\|^2 = \|g\|^2 +
    \mathrm{tr}\Sigma / K`, and for a large network the second term dominates. The U-statistic
    (Hoeffding 1948) has no such bias. Only the Gram matrix is needed, for the jackknife too.

    Args:
      gram: inner products of the microbatch gradients, ``[..., K, K]``, K >= 3.

    Returns:
      `SquaredNorm` of arrays ``[...]``. Non-finite entries give NaN.

    Raises:
      ValueError: if the last two axes are not square, or K < 3: leaving one gradient out must
        leave two. A field that does not depend on a batch goes through `exact_squared_norm`.

    Example:
      >>> import numpy as np
      >>> gradients = 1.0 + np.random.default_rng(0).normal(size=(32, 4))
      >>> norm = squared_norm(gradients @ gradients.T)  # the truth: 4, noise trace 4
      >>> bool(abs(norm.value - 4) < 2 * norm.standard_error)
      True
    """
    gram = _square(gram, least=3)
    count = gram.shape[-1]
    with np.errstate(all="ignore"):
        own = _diagonal(gram)
        off_diagonal = gram.sum(-1) - own  # [..., K]: sum over l != k of <g_k, g_l>
        value = off_diagonal.sum(-1) / (count * (count - 1))
        leave_one_out = off_diagonal.sum(-1, keepdims=True) - 2 * off_diagonal
        leave_one_out /= (count - 1) * (count - 2)
        spread = leave_one_out - leave_one_out.mean(-1, keepdims=True)
        standard_error = np.sqrt((count - 1) / count * (spread**2).sum(-1))
        noise_trace = (own.sum(-1) - gram.sum((-2, -1)) / count) / (count - 1)
        return SquaredNorm(value, standard_error, noise_trace, value / (noise_trace / count))


def exact_squared_norm(squared: ArrayLike) -> SquaredNorm:
    """Squared norms of a deterministic field: no error, no noise, infinite signal to noise.

    Args:
      squared: squared gradient norms, ``[...]``.

    Returns:
      `SquaredNorm` of arrays ``[...]``.

    Example:
      >>> exact_squared_norm([4.0, 1.0]).standard_error.tolist()
      [0.0, 0.0]
    """
    value = np.asarray(squared, np.float64)
    zero = np.zeros_like(value)
    return SquaredNorm(value, zero, zero, np.full_like(value, np.inf))


def below_noise_floor(norm: SquaredNorm) -> Mask:
    """Where a squared norm is too uncertain to be quoted: below two standard errors.

    This, and not ``snr < 1``, is the test: where the noise is spread over very many dimensions, 32
    microbatches at ``snr = 0.3`` still know the squared norm to 13 per cent.

    Args:
      norm: of arrays ``[...]``.

    Returns:
      Booleans ``[...]``. An exact value is never below the floor; NaN always is.

    Example:
      >>> import numpy as np
      >>> below_noise_floor(SquaredNorm(np.array([1.9, 2.1]), np.ones(2), np.ones(2), np.ones(2)))
      array([ True, False])
    """
    return ~(norm.value >= _NOISE_FLOOR * norm.standard_error) & ~(norm.standard_error == 0)


def members(labels: ArrayLike) -> list[NDArray[np.intp]]:
    """Indices of the entries with each label, by increasing label.

    Example:
      >>> [found.tolist() for found in members([5, 2, 5])]
      [[1], [0, 2]]
    """
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def window_ratio(
    steps: ArrayLike,
    value: ArrayLike,
    *,
    early: tuple[float, float] = (0.05, 0.25),
    late: tuple[float, float] = (0.8, 1.0),
    total_steps: float,
    exact: bool = False,
    floor: ArrayLike = TINY,
) -> Array:
    r"""Late gradient norm over early gradient norm, per run.

    .. math:: R = \sqrt{\mathrm{med}\,U_{late} / \mathrm{med}\,U_{early}}

    Medians, for the norm of a discriminator's gradient swings by 10 between checkpoints.

    Args:
      steps: steps of the checkpoints, ``[S]``.
      value: squared norms, ``[..., S]``; unclipped.
      early: window of the denominator, as fractions of ``total_steps``; both ends belong to it.
      late: window of the numerator.
      total_steps: length of the run, T.
      exact: the values have no noise: medians are raised to ``floor``, so that a gradient that
        reaches 0 has a ratio near 0. If both medians are at the floor there is nothing to compare.
      floor: what counts as 0 in an exact run, at least the smallest positive normal float64; one
        number or one per run, ``[...]``. Give the rounding level if a run reaches it: noise over
        noise would read as "does not fall".

    Returns:
      ``R >= 0``, ``[...]``; NaN where a median is not positive ("below the noise floor").

    Raises:
      ValueError: if a window holds no checkpoint, or the shapes do not match.

    Example:
      >>> steps = [10, 20, 80, 90, 100]
      >>> float(window_ratio(steps, [4.0, 4.0, 1.0, 9.0, 1.0], total_steps=100))
      0.5
    """
    steps, value = _along_steps(steps, value)
    early_median, late_median = (
        np.median(value[..., _inside(steps, window, total_steps)], axis=-1)
        for window in (early, late)
    )
    no_number = ~((early_median > 0) & (late_median > 0))
    if exact:
        least = np.maximum(floor, TINY)
        no_number = ~((early_median > least) | (late_median > least))
        no_number |= np.isnan(early_median) | np.isnan(late_median)
        early_median, late_median = (np.maximum(m, least) for m in (early_median, late_median))
    with np.errstate(all="ignore"):  # two roots: the quotient of the squares may overflow
        return np.where(no_number, np.nan, np.sqrt(late_median) / np.sqrt(early_median))


def loglog_slope(
    steps: ArrayLike,
    value: ArrayLike,
    standard_error: ArrayLike,
    *,
    window: tuple[float, float] = (0.1, 1.0),
    bins: int = 20,
    total_steps: float,
    exact: bool = False,
    floor: ArrayLike = TINY,
) -> Array:
    r"""Exponent of a power law: least-squares slope of :math:`\log U` against :math:`\log t`.

    ``U`` is averaged inside logarithmically spaced bins first, for a single ``U`` may be negative.
    A bin sits at the mean :math:`\log t` of its checkpoints; empty bins are dropped. The error of a
    bin mean is taken as the mean of the errors, an upper bound whatever their correlation:
    checkpoints of one run share their evaluation set, so their errors do not average out.

    Args:
      steps: steps of the checkpoints, ``[S]``.
      value: squared norms, ``[..., S]``; unclipped.
      standard_error: of ``value``, ``[..., S]``.
      window: fractions of ``total_steps``, begin above 0; both ends belong to it.
      bins: number of bins before empty ones are dropped.
      total_steps: length of the run, T.
      exact: the values have no noise: bin means are raised to ``floor``, and only a run that lies
        on it all along gives no number.
      floor: as in `window_ratio`.

    Returns:
      Slope, ``[...]``; NaN if any bin mean is at most two standard errors ("below the noise
      floor"), or fewer than 3 bins hold a checkpoint.

    Raises:
      ValueError: if the window holds no checkpoint, or the shapes do not match.

    Example:
      >>> import numpy as np
      >>> steps = np.arange(1, 1001)
      >>> slope = loglog_slope(steps, 7 * steps**-0.5, np.zeros(1000), total_steps=1000, exact=True)
      >>> round(float(slope), 3)
      -0.5
    """
    steps, value = _along_steps(steps, value)
    error = np.broadcast_to(np.asarray(standard_error, np.float64), value.shape)
    inside = _inside(steps, window, total_steps)
    log_t = np.log(steps[inside])
    edges = np.log(total_steps) + np.linspace(np.log(window[0]), np.log(window[1]), bins + 1)
    _, which = np.unique(np.searchsorted(edges[1:-1], log_t, side="right"), return_inverse=True)
    average = (which == np.arange(which.max() + 1)[:, None]).astype(
        np.float64
    )  # [bins, checkpoints]
    average /= average.sum(1, keepdims=True)
    if len(average) < _MIN_BINS:
        return np.full(value.shape[:-1], np.nan)
    centre = average @ log_t
    centre -= centre.mean()
    with np.errstate(all="ignore"):
        mean, error = value[..., inside] @ average.T, error[..., inside] @ average.T
        if exact:
            least = np.maximum(floor, TINY)[..., None]
            no_number = (mean <= least).all(-1) | np.isnan(mean).any(-1)
            mean = np.maximum(mean, least)
        else:
            no_number = ~(mean > _NOISE_FLOOR * error).all(-1)
        slope = np.log(np.where(no_number[..., None], 1.0, mean)) @ centre / (centre @ centre)
    return np.where(no_number, np.nan, slope)


def _square(gram: ArrayLike, least: int) -> Array:
    gram = np.asarray(gram, np.float64)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2] or gram.shape[-1] < least:
        raise ValueError(
            f"gram of shape {gram.shape}: expected [..., K, K] with K >= {least} microbatches"
        )
    return gram


def _diagonal(gram: Array) -> Array:
    return np.diagonal(gram, axis1=-2, axis2=-1)


def _along_steps(steps: ArrayLike, value: ArrayLike) -> tuple[Array, Array]:
    steps, value = np.asarray(steps, np.float64), np.asarray(value, np.float64)
    if steps.ndim != 1 or value.shape[-1:] != steps.shape:
        raise ValueError(f"steps {steps.shape} and value {value.shape}: expected [S] and [..., S]")
    return steps, value


class EmptyWindowError(ValueError):
    """No checkpoint lies in a window."""


def in_window(steps: Array, window: tuple[float, float], total_steps: float) -> Mask:
    """Which steps lie in a window; both ends belong to it."""
    return (steps >= window[0] * total_steps) & (steps <= window[1] * total_steps)


def _inside(steps: Array, window: tuple[float, float], total_steps: float) -> Mask:
    inside = in_window(steps, window, total_steps)
    if not inside.any():
        raise EmptyWindowError(
            f"window {window} of {total_steps} steps: expected at least one checkpoint in it,"
            f" the {steps.size} given lie between {steps.min():g} and {steps.max():g}"
        )
    return inside
