"""Coverage of modes and classes by a set of samples: pure functions of arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Mixture", "check_mixture", "class_measures", "label_measures", "mixture_measures"]

RADIUS = 3.0  # standard deviations; samples of high quality are this close to a mean
LEAST_SHARE = 0.25  # a covered mode or class has at least this part of its fair share of samples


class Mixture(NamedTuple):
    """A mixture of equally likely Gaussians with the same standard deviation.

    Attributes:
      means: ``[modes, d]``.
      std: standard deviation of each coordinate around its mean, above 0.

    Example:
      >>> from onesided_jax.datasets import ring_means
      >>> Mixture(ring_means(), 0.02).means.shape
      (8, 2)
    """

    means: np.ndarray
    std: float


def check_mixture(mixture: Mixture) -> Mixture:
    """Returns the mixture in float64; raises ValueError if it is invalid."""
    means = np.asarray(mixture.means, np.float64)
    if means.ndim != 2 or means.size == 0 or not np.isfinite(means).all():
        raise ValueError(
            f"Mixture.means {list(means.shape)}: expected finite numbers [modes, d], not empty"
        )
    if not 0 < mixture.std < math.inf:
        raise ValueError(f"Mixture.std={mixture.std!r}: expected a finite number above 0")
    return Mixture(means, float(mixture.std))


def mixture_measures(samples: ArrayLike, mixture: Mixture) -> dict[str, float]:
    """Shares of covered modes and of high-quality samples, for samples ``[n, d]``.

    A sample is of high quality within 3 standard deviations of the nearest mean. In two dimensions
    this holds for 98.9% of the true distribution. A mode is covered if it has at least
    1 / (4 modes) of all samples, as samples of high quality.

    Returns:
      ``modes`` and ``high_quality``, both in [0, 1].
    """
    samples = np.asarray(samples, np.float64)
    squared = ((samples[:, None] - mixture.means) ** 2).sum(-1)  # [n, modes]: n d modes is small
    nearest = squared.argmin(1)
    good = squared.min(1) <= (RADIUS * mixture.std) ** 2
    return {
        "modes": _covered(np.bincount(nearest[good], minlength=len(mixture.means)), len(samples)),
        "high_quality": float(good.mean()),
    }


def class_measures(classes: ArrayLike, count: int) -> dict[str, float]:
    """How evenly samples are spread over classes.

    Args:
      classes: predicted classes, ``int[n]`` in ``[0, count)``.
      count: number of classes, at least 2.

    Returns:
      ``class_coverage``: the share of classes with at least 1 / (4 count) of the samples.
      ``class_entropy``: entropy of the shares divided by ``log(count)``; 1 if all shares are equal,
      0 if there is only one class.
    """
    found = np.bincount(np.asarray(classes), minlength=count)
    shares = found[found > 0] / found.sum()
    entropy = -float((shares * np.log(shares)).sum()) / math.log(count)
    return {"class_coverage": _covered(found, int(found.sum())), "class_entropy": abs(entropy)}


def label_measures(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Share of a conditional GAN's samples that have the requested class.

    Args:
      predicted: predicted classes, ``int[n]``.
      labels: requested classes, ``int[n]``.

    Returns:
      ``label_accuracy_C`` for each class, a share in [0, 1], and ``label_accuracy``, their mean.
    """
    right = predicted == labels
    shares = {f"label_accuracy_{c}": float(right[labels == c].mean()) for c in np.unique(labels)}
    return {"label_accuracy": float(np.mean(list(shares.values()))), **shares}


def _covered(counts: np.ndarray, total: int) -> float:
    return float((counts >= LEAST_SHARE * total / len(counts)).mean())
