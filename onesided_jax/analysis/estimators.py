r"""Statistics of noisy gradients, in NumPy float64: pure functions of arrays.

What is estimated here, and with what:

* the squared norm :math:`\|g\|^2` of an expected gradient, from the Gram matrix of K microbatch
  gradients: U-statistic (Hoeffding 1948), jackknife standard error (Quenouille 1956, Tukey 1958);
* how that norm changes along a run: a ratio of windows and a log-log slope;
* the sign of an inner product :math:`\langle x - x^*, g\rangle`: Student's t;
* what a set of seeds, or a cross matrix of checkpoints, says: Student intervals over seeds, and a
  bootstrap over rows and columns (Efron 1979; two-way as in Owen 2007).

NaN means "no number" throughout: below the noise floor, or too few data. Nothing is clipped or
dropped in silence; each function says what it does with NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

__all__ = [
    "TINY",
    "Interval",
    "MeanT",
    "SquaredNorm",
    "below_noise_floor",
    "cross_regions",
    "exact_squared_norm",
    "loglog_slope",
    "mean_t",
    "significant_signs",
    "squared_norm",
    "t_interval",
    "two_way_bootstrap",
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


class Interval(NamedTuple):
    """Mean and confidence limits: three floats."""

    mean: float
    low: float
    high: float


class MeanT(NamedTuple):
    """Mean of samples, its t statistic and the half width of its interval; all ``[...]``."""

    mean: Array
    t_statistic: Array
    half_width: Array


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

    This, and not ``snr < 1``, is the test: 32 microbatches at ``snr = 0.3`` still know the norm to
    13 per cent.

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


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Student interval for the mean over seeds.

    Student's t, since a percentile bootstrap over 5 seeds covers 84 per cent where it promises 95.

    Args:
      values: one number per seed, ``[n]``. NaN is a seed that gives no number and is left out here;
        whether a claim may rest on the others is for the caller to decide (the verdicts say no).
      level: coverage, in (0, 1).

    Returns:
      ``(mean, low, high)``; with fewer than 2 numbers the limits are NaN, with none the mean too.

    Example:
      >>> [round(v, 3) for v in t_interval([1.0, 2.0, 3.0, float("nan")])]
      [2.0, -0.484, 4.484]
    """
    values = np.asarray(values, np.float64).ravel()
    values = values[~np.isnan(values)]
    count = values.size
    if count == 0:
        return Interval(np.nan, np.nan, np.nan)
    with np.errstate(all="ignore"):  # an infinite value leaves no mean and no limits
        mean = _constant_mean(values)
        half = _half_width(mean, values, level) if count > 1 else np.nan
    return Interval(float(mean), float(mean - half), float(mean + half))


def window_ratio(
    steps: ArrayLike,
    value: ArrayLike,
    *,
    early: tuple[float, float] = (0.05, 0.25),
    late: tuple[float, float] = (0.8, 1.0),
    total_steps: float,
    exact: bool = False,
    floor: float = TINY,
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
      floor: what counts as 0 in an exact run, at least the smallest positive normal float64. Give
        the rounding level if a run reaches it: noise over noise would read as "does not fall".

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
        floor = max(floor, TINY)
        no_number = ~((early_median > floor) | (late_median > floor))
        no_number |= np.isnan(early_median) | np.isnan(late_median)
        early_median, late_median = (np.maximum(m, floor) for m in (early_median, late_median))
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
    floor: float = TINY,
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
            floor = max(floor, TINY)
            no_number = (mean <= floor).all(-1) | np.isnan(mean).any(-1)
            mean = np.maximum(mean, floor)
        else:
            no_number = ~(mean > _NOISE_FLOOR * error).all(-1)
        slope = np.log(np.where(no_number[..., None], 1.0, mean)) @ centre / (centre @ centre)
    return np.where(no_number, np.nan, slope)


def mean_t(samples: ArrayLike, *, level: float = 0.95) -> MeanT:
    r"""Mean of samples with its t statistic, e.g. of :math:`\langle x - x^*, g_k\rangle` over k.

    Args:
      samples: independent samples, ``[..., n]``, n >= 2.
      level: coverage of ``mean`` +- ``half_width``, in (0, 1).

    Returns:
      `MeanT` of arrays ``[...]``. Where all samples are equal the mean is exact, the half width 0
      and the t statistic undefined (NaN), which `significant_signs` understands.

    Raises:
      ValueError: if n < 2: one sample says nothing about its error.

    Example:
      >>> mean, t, half_width = mean_t([[1.0, 2.0, 3.0], [0.1, 0.1, 0.1]])
      >>> mean.tolist(), t.round(3).tolist(), half_width.round(3).tolist()
      ([2.0, 0.1], [3.464, nan], [2.484, 0.0])
    """
    samples = np.asarray(samples, np.float64)
    count = samples.shape[-1] if samples.ndim else 0
    if count < 2:
        raise ValueError(f"samples of shape {samples.shape}: expected at least 2 on the last axis")
    with np.errstate(all="ignore"):
        mean = _constant_mean(samples)
        half = _half_width(mean, samples, level)
        return MeanT(mean, np.where(half == 0, np.nan, mean / half * _quantile(level, count)), half)


def cross_regions(row_steps: ArrayLike, column_steps: ArrayLike) -> dict[str, Mask]:
    r"""Regions of the cross matrix :math:`\langle x_s - x^*, \nabla_x f(x_s, y_t)\rangle`.

    Args:
      row_steps: steps ``s`` of the primal checkpoints, ``[S]``.
      column_steps: steps ``t`` of the dual checkpoints, ``[T]``.

    Returns:
      Masks ``[S, T]``. ``"diagonal"`` (s = t), ``"newer_dual"`` (t > s) and ``"older_dual"``
      (t < s) partition the matrix; ``"off_diagonal"`` is the union of the last two; ``"near"`` is
      the part of it at most 2 checkpoints away, counted on the merged list of both steps.

    Example:
      >>> cross_regions([10, 20], [10, 20, 30])["newer_dual"].astype(int).tolist()
      [[0, 1, 1], [0, 0, 1]]
    """
    rows, columns = np.asarray(row_steps).ravel(), np.asarray(column_steps).ravel()
    _, rank = np.unique(np.concatenate([rows, columns]), return_inverse=True)
    lag = rank[rows.size :] - rank[: rows.size, None]
    return {
        "diagonal": lag == 0,
        "near": (np.abs(lag) <= 2) & (lag != 0),
        "newer_dual": lag > 0,
        "older_dual": lag < 0,
        "off_diagonal": lag != 0,
    }


def two_way_bootstrap(
    matrix: ArrayLike,
    statistic: Callable[[Array], float],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval that resamples rows and columns of a cross matrix independently.

    Entries of one row share a generator and those of one column a discriminator. Resampling
    entries would count them as independent and give an interval that is far too short.

    Args:
      matrix: ``[S, T]``. A resampled matrix has lost its diagonal, so mark the entries that do not
        count with NaN and let ``statistic`` skip NaN.
      statistic: ``[S, T] -> float``; NaN where a draw holds nothing that counts.
      draws: number of resamples.
      seed: of NumPy's generator.
      level: coverage, in (0, 1).

    Returns:
      ``(low, high)`` over the draws that give a number; NaN if none does.

    Example:
      >>> import numpy as np
      >>> low, high = two_way_bootstrap(np.arange(20.0).reshape(4, 5), np.mean)
      >>> low < 9.5 < high
      True
    """
    matrix = np.asarray(matrix, np.float64)
    rng = np.random.default_rng(seed)
    rows = rng.integers(matrix.shape[0], size=(draws, matrix.shape[0]))
    columns = rng.integers(matrix.shape[1], size=(draws, matrix.shape[1]))
    values = np.array([statistic(matrix[np.ix_(r, c)]) for r, c in zip(rows, columns)], np.float64)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def significant_signs(
    mean: ArrayLike,
    t_statistic: ArrayLike,
    n: int,
    *,
    alpha: float = 0.01,
    scale: ArrayLike | None = None,
    tolerance: float = 1e-9,
) -> NDArray[np.int8]:
    r"""Sign of each mean where it is significant, else 0: one-sided Student test of size ``alpha``.

    Args:
      mean: means of inner products, ``[...]``.
      t_statistic: their t statistics, ``[...]``; NaN marks an exact entry (`mean_t`), whose sign
        counts beyond rounding, ``|mean| > tolerance * scale``.
      n: samples behind each mean.
      alpha: size of the test of each sign, in (0, 0.5).
      scale: :math:`\|x - x^*\| \|g\|`, broadcast to ``[...]``; needed for exact entries.
      tolerance: relative rounding error of an exact inner product.

    Returns:
      -1, 0 or +1, ``[...]`` int8. A mean of NaN gives 0.

    Raises:
      ValueError: if there are exact entries and no scale.

    Example:
      >>> significant_signs([1.0, 1.0, -1.0], [9.0, 1.0, -9.0], n=32).tolist()
      [1, 0, -1]
    """
    mean, t_statistic = np.asarray(mean, np.float64), np.asarray(t_statistic, np.float64)
    exact = np.isnan(t_statistic) & ~np.isnan(mean)
    significant = np.zeros(exact.shape, bool)
    if not exact.all():
        significant = np.abs(t_statistic) > stdtrit(n - 1, 1 - alpha)
    if exact.any():
        if scale is None:
            raise ValueError("scale = None: expected ||x - x*|| ||g|| for entries without noise")
        significant |= exact & (np.abs(mean) > tolerance * np.asarray(scale, np.float64))
    return np.where(significant, np.sign(mean), 0).astype(np.int8)


def _square(gram: ArrayLike, least: int) -> Array:
    gram = np.asarray(gram, np.float64)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2] or gram.shape[-1] < least:
        raise ValueError(
            f"gram of shape {gram.shape}: expected [..., K, K] with K >= {least} microbatches"
        )
    return gram


def _diagonal(gram: Array) -> Array:
    return np.diagonal(gram, axis1=-2, axis2=-1)


def _quantile(level: float, count: int) -> float:
    return float(stdtrit(count - 1, (1 + level) / 2))


def _constant_mean(samples: Array) -> Array:
    """Mean over the last axis that does not round where all samples are equal."""
    first = samples[..., :1]
    return np.asarray(first[..., 0] + (samples - first).mean(-1))


def _half_width(mean: Array, samples: Array, level: float) -> Array:
    count = samples.shape[-1]
    return _quantile(level, count) * (samples - mean[..., None]).std(-1, ddof=1) / np.sqrt(count)


def _along_steps(steps: ArrayLike, value: ArrayLike) -> tuple[Array, Array]:
    steps, value = np.asarray(steps, np.float64), np.asarray(value, np.float64)
    if steps.ndim != 1 or value.shape[-1:] != steps.shape:
        raise ValueError(f"steps {steps.shape} and value {value.shape}: expected [S] and [..., S]")
    return steps, value


def _inside(steps: Array, window: tuple[float, float], total_steps: float) -> Mask:
    inside = (steps >= window[0] * total_steps) & (steps <= window[1] * total_steps)
    if not inside.any():
        raise ValueError(
            f"window {window} of {total_steps} steps: expected at least one checkpoint in it,"
            f" the {steps.size} given lie between {steps.min():g} and {steps.max():g}"
        )
    return inside
