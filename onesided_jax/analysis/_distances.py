"""Distances between two clouds of feature vectors, in NumPy float64: pure functions of arrays."""

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
    "neighbour_distances",
    "precision_recall",
]

NEIGHBOURS = 3  # Kynkäänniemi et al. 2019, section 3.1
_BLOCK = 1000  # rows of a distance matrix held at once


class Gaussian(NamedTuple):
    """A Gaussian fitted to features.

    Attributes:
      mean: ``[d]``.
      root: a factor of the covariance (with n - 1), ``root.T @ root``, ``[min(n, d), d]``.
    """

    mean: Array
    root: Array


class PrecisionRecall(NamedTuple):
    """How well two clouds cover each other; each of the four is 1 for equal distributions.

    Attributes:
      precision: share of the samples inside the manifold of the real ones.
      recall: share of the real ones inside the manifold of the samples.
      density: mean number of real balls a sample lies in, over the number of neighbours; can
        exceed 1.
      coverage: share of the real balls that hold a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def fit_gaussian(features: ArrayLike) -> Gaussian:
    """Mean and a factor of the covariance of features ``[n, d]``, n >= 2."""
    features = _cloud("features", features)
    mean = features.mean(0)
    # A QR factor instead of the covariance: squaring would halve the number of good digits.
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
    r"""Fréchet distance between Gaussians fitted to two clouds of features.

    .. math:: \|\mu_1 - \mu_2\|^2
              + \mathrm{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    On Inception features this is the FID. The root is never formed: with
    :math:`\Sigma_i = R_i^\top R_i` its trace is the sum of the singular values of
    :math:`R_1 R_2^\top`, which needs no symmetric part to be taken and works for singular
    covariances. The estimate is biased upwards by few samples: compare only equal numbers of them.

    Args:
      real: ``[n, d]``, n >= 2.
      samples: ``[m, d]``, m >= 2.

    Returns:
      The distance (squared, in the features' units squared), at least 0.

    Raises:
      ValueError: if the shapes do not fit, or a number is not finite.

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
    real: ArrayLike,
    samples: ArrayLike,
    *,
    neighbours: int = NEIGHBOURS,
    real_distances: ArrayLike | None = None,
) -> PrecisionRecall:
    """Precision and recall, density and coverage of samples, by nearest-neighbour manifolds.

    The manifold of a cloud is the union of the balls around its points that reach their k-th
    nearest neighbour. Precision falls with bad samples, recall with missing ones; a few outliers
    blow recall and precision up, which density and coverage (balls around real points only)
    withstand. All depend on the numbers of points: compare only equal ones.

    Args:
      real: features of real samples, ``[n, d]``, n > neighbours.
      samples: of generated ones, ``[m, d]``, m > neighbours.
      neighbours: k.
      real_distances: ``neighbour_distances(real)``, where it is known already.

    Returns:
      :class:`PrecisionRecall`.

    Raises:
      ValueError: if the shapes do not fit, a number is not finite, or there are too few points.

    Example:
      >>> import numpy as np
      >>> real = np.random.default_rng(0).normal(size=(500, 2))
      >>> collapsed = precision_recall(real, np.zeros((500, 2)))
      >>> collapsed.precision, collapsed.recall
      (1.0, 0.0)

    References:
      Kynkäänniemi et al., Improved precision and recall metric for assessing generative models,
      NeurIPS 2019, arXiv:1904.06991. Naeem et al., Reliable fidelity and diversity metrics for
      generative models, ICML 2020, arXiv:2002.09797.
    """
    real, samples = _clouds(real, samples)
    if real_distances is None:
        real_distances = neighbour_distances(real, neighbours=neighbours)
    real_radii = np.square(real_distances)
    sample_radii = np.square(neighbour_distances(samples, neighbours=neighbours))
    found = []  # per block of samples: in a real ball?, in how many?, ... and per real point
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, squared in _squared_distances(samples, real):
        inside = squared <= real_radii
        found.append(inside.sum(1))
        covered |= inside.any(0)
        recalled |= (squared <= sample_radii[rows, None]).any(0)
    balls = np.concatenate(found)
    return PrecisionRecall(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / neighbours),
        coverage=float(covered.mean()),
    )


def neighbour_distances(points: ArrayLike, *, neighbours: int = NEIGHBOURS) -> Array:
    """Distance of each of the points ``[n, d]`` to its k-th nearest neighbour, ``[n]``."""
    points = _cloud("points", points)
    if not 1 <= neighbours < len(points):
        raise ValueError(
            f"neighbours={neighbours}: expected an integer from 1 to {len(points) - 1}, "
            f"for there are {len(points)} points"
        )
    squared = []
    for rows, block in _squared_distances(points, points):
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -1.0  # itself
        squared.append(np.partition(block, neighbours, axis=1)[:, neighbours])
    return np.sqrt(np.concatenate(squared))


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Blocks of rows of ``|a_i - b_j|^2``, through one matrix product each."""
    centre = b.mean(0)  # far from the origin the product would lose the digits of the differences
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
            "expected as many features per row"
        )
    return real, samples


def _cloud(name: str, points: ArrayLike) -> Array:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"{name} {list(points.shape)}: expected [n, d] with n >= 2")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite numbers, got inf or nan")
    return points
