"""Distances between two sets of feature vectors: pure functions in NumPy float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import Array
from onesided_jax.extras import need

__all__ = [
    "Gaussian",
    "PrecisionRecall",
    "fit_gaussian",
    "frechet_distance",
    "gaussian_frechet_distance",
    "precision_recall",
]

NEIGHBOURS = 3  # Kynkäänniemi et al. 2019, section 3.1
_BLOCK = 1000  # rows of a distance matrix held at once


class Gaussian(NamedTuple):
    """A Gaussian fitted to features.

    Attributes:
      mean: ``[d]``.
      root: ``[min(n, d), d]``; the covariance (with n - 1) is ``root.T @ root``.
    """

    mean: Array
    root: Array


class PrecisionRecall(NamedTuple):
    """Precision and recall; both are 1 for equal sets.

    Attributes:
      precision: share of the generated samples inside the manifold of the real samples.
      recall: share of the real samples inside the manifold of the generated samples.
    """

    precision: float
    recall: float


def fit_gaussian(features: ArrayLike) -> Gaussian:
    """Mean and a factor of the covariance of features ``[n, d]``, n >= 2."""
    features = _cloud("features", features)
    mean = features.mean(0)
    # A QR factor instead of the covariance, because squaring halves the number of correct digits.
    root = np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1)
    return Gaussian(mean, root)


def gaussian_frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared 2-Wasserstein distance of two Gaussians; see `frechet_distance`."""
    need("analysis", "the Fréchet distance", "scipy")
    from scipy.linalg import svdvals

    cross = np.sum(svdvals(a.root @ b.root.T))
    squared = ((a.mean - b.mean) ** 2).sum() + (a.root**2).sum() + (b.root**2).sum() - 2 * cross
    return max(float(squared), 0.0)


def frechet_distance(real: ArrayLike, samples: ArrayLike) -> float:
    r"""Fréchet distance between Gaussians fitted to two sets of features.

    .. math:: \|\mu_1 - \mu_2\|^2
              + \mathrm{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    On Inception features this is the FID. With :math:`\Sigma_i = R_i^\top R_i`, the trace of the
    root is the sum of the singular values of :math:`R_1 R_2^\top`, so covariances may be singular.
    Few samples bias the distance upwards: only compare equal numbers of samples.

    Args:
      real: ``[n, d]``, n >= 2.
      samples: ``[m, d]``, m >= 2.

    Returns:
      The squared distance, in squared units of the features, at least 0.

    Raises:
      ValueError: if the shapes do not match, or a number is not finite.

    Example:
      >>> import numpy as np
      >>> real = np.random.default_rng(0).normal(size=(1000, 3))
      >>> round(frechet_distance(real, real + [2.0, 0.0, 0.0]), 6)
      4.0

    References:
      Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash
      equilibrium, NeurIPS 2017, arXiv:1706.08500, equation 6.
    """
    real, samples = _clouds(real, samples)
    return gaussian_frechet_distance(fit_gaussian(real), fit_gaussian(samples))


def precision_recall(
    real: ArrayLike, samples: ArrayLike, *, neighbours: int = NEIGHBOURS
) -> PrecisionRecall:
    """Precision and recall of samples, by nearest-neighbour manifolds.

    The manifold of a set is the union of balls around its points. The radius of each ball is the
    distance to the k-th nearest neighbour. Bad samples lower precision, missing ones recall. Both
    depend on the number of points: only compare equal numbers.

    Args:
      real: features of real samples, ``[n, d]``, n > neighbours.
      samples: features of generated samples, ``[m, d]``, m > neighbours.
      neighbours: k.

    Raises:
      ValueError: if the shapes do not match, a number is not finite, or there are too few points.

    Example:
      >>> import numpy as np
      >>> real = np.random.default_rng(0).normal(size=(500, 2))
      >>> precision_recall(real, np.zeros((500, 2)))  # collapsed
      PrecisionRecall(precision=1.0, recall=0.0)

    References:
      Kynkäänniemi et al., Improved precision and recall metric for assessing generative models,
      NeurIPS 2019, arXiv:1904.06991.
    """
    real, samples = _clouds(real, samples)
    real_radii, sample_radii = _squared_radii(real, neighbours), _squared_radii(samples, neighbours)
    hits, recalled = 0, np.zeros(len(real), bool)
    for rows, squared in _squared_distances(samples, real):
        hits += int((squared <= real_radii).any(1).sum())
        recalled |= (squared <= sample_radii[rows, None]).any(0)
    return PrecisionRecall(hits / len(samples), float(recalled.mean()))


def _squared_radii(points: Array, neighbours: int) -> Array:
    """Squared distances ``[n]`` of points ``[n, d]`` to their k-th nearest neighbours."""
    if not 1 <= neighbours < len(points):
        raise ValueError(
            f"neighbours={neighbours}: expected an integer from 1 to {len(points) - 1}, "
            f"because there are {len(points)} points"
        )
    squared = []
    for rows, block in _squared_distances(points, points):
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -1.0  # the point itself
        squared.append(np.partition(block, neighbours, axis=1)[:, neighbours])
    return np.concatenate(squared)


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Yields blocks of rows of ``|a_i - b_j|^2``, with one matrix product per block."""
    centre = b.mean(0)  # far from the origin, the product loses digits of the differences
    a, b = a - centre, b - centre
    square_b = (b**2).sum(1)
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(a)))
        part = a[rows]
        squared = part @ (-2 * b.T)
        squared += (part**2).sum(1)[:, None] + square_b
        yield rows, np.maximum(squared, 0.0, out=squared)


def _clouds(real: ArrayLike, samples: ArrayLike) -> tuple[Array, Array]:
    real, samples = _cloud("real", real), _cloud("samples", samples)
    if real.shape[1] != samples.shape[1]:
        raise ValueError(
            f"real {list(real.shape)} and samples {list(samples.shape)}: "
            "expected the same number of features per row"
        )
    return real, samples


def _cloud(name: str, points: ArrayLike) -> Array:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"{name} {list(points.shape)}: expected [n, d] with n >= 2")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite numbers, got inf or nan")
    return points
