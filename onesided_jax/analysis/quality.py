"""Quality of a generator's samples, without downloads.

For labelled images, a small classifier is trained on the real images. Its penultimate features give
Fréchet distance, precision and recall; its predictions show how evenly the classes are covered. For
a mixture with known modes, the measures are the shares of covered modes and of good samples.
`quality_gate` decides from them whether training was successful.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis._classifier import ClassifierSettings, check_labels, describe, network
from onesided_jax.analysis._classifier_cache import cached_classifier
from onesided_jax.analysis._distances import (
    PrecisionRecall,
    fit_gaussian,
    frechet_distance,
    gaussian_frechet_distance,
    precision_recall,
)
from onesided_jax.analysis._inception import load_inception
from onesided_jax.analysis._modes import (
    Mixture,
    check_mixture,
    class_measures,
    label_measures,
    mixture_measures,
)
from onesided_jax.analysis.estimators import Array
from onesided_jax.datasets import Dataset

__all__ = ["NotFiniteError", "Reference", "quality", "quality_reference"]

_LEAST_SAMPLES = 10
_MANIFOLD = 2_500  # points of precision and recall, whose cost is quadratic
_MIXTURE_MEASURES = ("modes", "high_quality")
_CLASS_MEASURES = ("frechet", *PrecisionRecall._fields, "class_coverage", "class_entropy")
_INCEPTION_IMAGES = 50_000  # real images for the FID, the usual number


class NotFiniteError(ValueError):
    """Samples contain inf or nan."""


class Reference(NamedTuple):
    """Real data to compare samples with, prepared by :func:`quality_reference`.

    Attributes:
      shape: shape of one sample.
      measures: names of the measures.
      measure: ``(samples[n, *shape], labels int[n] or None) -> {measure: number}``. ``labels`` are
        the classes requested from a conditional GAN; they add the measures of `label_names`.
      kind: ``"mixture"`` or ``"images"``, which `quality_gate` can judge, or ``"unlabelled"``.
      about: facts for a report: number of real samples, accuracy of the classifier, ...
    """

    shape: tuple[int, ...]
    measures: tuple[str, ...]
    measure: Callable[..., dict[str, float]]
    kind: str
    about: Mapping[str, Any]

    def label_names(self, classes: int | None) -> tuple[str, ...]:
        """Names of the additional measures for samples with labels of ``classes`` classes."""
        if classes is None or self.kind != "images":
            return ()
        return ("label_accuracy", *(f"label_accuracy_{c}" for c in range(classes)))


def quality_reference(
    data: Dataset | Mixture,
    *,
    inception: str | os.PathLike[str] | None = None,
    seed: int = 0,
    settings: ClassifierSettings | None = None,
) -> Reference:
    """Prepares the comparison with real data: trains the classifier, or reads it from the cache.

    Training takes about 20 seconds on two cores for 5,000 MNIST digits. The cache is in
    ``$ONESIDED_CACHE`` or the user's cache directory. Features are divided by one number, so that
    real features have total variance 1. So a generator that only gives the mean of the real
    features has a Fréchet distance of 1.

    Args:
      data: labelled images, or a mixture. With ``inception``, images do not need labels.
      inception: TorchScript file of the Inception network, to measure the standard FID too; needs
        torch. Published FIDs use 50,000 samples.
      seed: seed of the classifier.
      settings: settings of the classifier; ``None`` takes the defaults.

    Returns:
      :class:`Reference`. For a mixture it measures ``modes`` (share of covered modes) and
      ``high_quality`` (share of samples within 3 standard deviations of a mean). For images it
      measures ``frechet``, ``precision``, ``recall``, ``class_coverage`` and ``class_entropy``
      (divided by the logarithm of the number of classes), and with Inception ``fid``.

    Raises:
      ValueError: if the data are unsuitable, or the file is not an Inception network.
      FileNotFoundError: if the file ``inception`` does not exist.
      ImportError: if torch is needed and missing.

    Example:
      >>> from onesided_jax.datasets import ring_means
      >>> reference = quality_reference(Mixture(ring_means(), std=0.02))
      >>> reference.measure(ring_means()[:2].repeat(50, axis=0))
      {'modes': 0.25, 'high_quality': 1.0}
    """
    if isinstance(data, Mixture):
        if inception is not None:
            raise ValueError("inception: a mixture has no images; expected an image data set")
        mixture = check_mixture(data)
        return Reference(
            mixture.means.shape[1:],
            _MIXTURE_MEASURES,
            lambda samples, labels=None: mixture_measures(samples, mixture),
            "mixture",
            {"modes": len(mixture.means), "std": mixture.std},
        )
    images, labels = data.data, data.labels
    if images is None or images.dtype != np.uint8:
        raise ValueError(f"{data.name}: expected stored images with labels, or a Mixture")
    if labels is None and inception is None:
        raise ValueError(f"{data.name} has no labels to train a classifier on")
    order = np.random.default_rng(seed).permutation(len(images))  # data may be sorted by class
    parts: list[Callable[..., dict[str, float]]] = []
    facts: dict[str, Any] = {"real_samples": len(images)}
    names: tuple[str, ...] = ()
    if labels is not None:
        settings = settings or ClassifierSettings()
        measure, more = _class_reference(images, labels, order, seed, settings)
        parts.append(measure)
        facts |= more
        names += _CLASS_MEASURES
    if inception is not None:
        see = load_inception(inception, data.shape)
        real = fit_gaussian(see(images[order[:_INCEPTION_IMAGES]]))
        parts.append(lambda x, _: {"fid": gaussian_frechet_distance(real, fit_gaussian(see(x)))})
        facts["inception"] = Path(inception).name
        names += ("fid",)

    def measure_images(samples: np.ndarray, labels: Array | None = None) -> dict[str, float]:
        shown = _as_bytes(samples)
        return {n: value for part in parts for n, value in part(shown, labels).items()}

    kind = "unlabelled" if labels is None else "images"
    return Reference(data.shape, names, measure_images, kind, facts)


def quality(
    samples: Iterable[ArrayLike], reference: Reference, *, labels: ArrayLike | None = None
) -> dict[str, Array]:
    """Measures a generator on several sets of its samples.

    Args:
      samples: K sets ``[n, *shape]`` of equal size, n >= 10, one per evaluation seed; usually
        10,000 samples each. Images are bytes, or floats in [-1, 1] that are rounded to bytes.
      reference: from :func:`quality_reference`.
      labels: classes ``int[n]`` requested from a conditional GAN, the same for each set.
        ``label_accuracy_7`` is then the share of the samples of class 7 that the classifier
        assigns to class 7. ``label_accuracy`` is the mean over classes.

    Returns:
      Measure to ``f64[K]``, one value per set.

    Raises:
      ValueError: if the shape of a set does not match the data's.
      NotFiniteError: (a ValueError) if a number is not finite.

    Example:
      >>> import jax
      >>> from onesided_jax.datasets import ring, ring_means
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> found = quality(
      ...     (ring().sample(key, 1000) for key in keys),
      ...     quality_reference(Mixture(ring_means(), std=0.02)),
      ... )
      >>> found["modes"].tolist(), found["high_quality"].shape
      ([1.0, 1.0, 1.0], (3,))
    """
    asked = None if labels is None else np.asarray(labels)
    found = [
        reference.measure(_checked(np.asarray(part), i, reference.shape), asked)
        for i, part in enumerate(samples)
    ]
    if not found:
        raise ValueError("samples: expected at least one set, got none")
    return {n: np.array([one[n] for one in found], np.float64) for n in found[0]}


def _class_reference(
    images: np.ndarray, labels: Any, order: np.ndarray, seed: int, settings: ClassifierSettings
) -> tuple[Callable[..., dict[str, float]], dict[str, Any]]:
    """The measures on the classifier's features, and facts about them."""
    names = np.unique(labels)  # the classifier numbers the existing classes from 0
    images, labels, classes = check_labels(images, labels)
    trained = cached_classifier(images, labels, seed=seed, settings=settings)
    see = describe(network(images.shape[1:], classes, settings), trained.params)
    real = see(images[order])[0].astype(np.float64)
    scale = np.sqrt(real.var(0).sum())
    real /= scale
    fitted = fit_gaussian(real)

    def measure(samples: np.ndarray, asked: Array | None = None) -> dict[str, float]:
        features, predicted = see(samples)
        features = features / scale
        count = min(len(real), len(features), _MANIFOLD)
        return {
            "frechet": gaussian_frechet_distance(fitted, fit_gaussian(features)),
            **precision_recall(real[:count], features[:count])._asdict(),
            **class_measures(predicted, classes),
            **({} if asked is None else label_measures(names[predicted], asked)),
        }

    half = len(real) // 2
    return measure, {
        "classifier_accuracy": trained.accuracy,
        "classifier_held_out": trained.held_out,
        "classes": classes,
        "class_entropy_of_data": class_measures(labels, classes)["class_entropy"],
        "frechet_of_halves": frechet_distance(real[:half], real[half:]),
    }


def _checked(samples: np.ndarray, number: int, shape: tuple[int, ...]) -> np.ndarray:
    if samples.shape[1:] != shape or len(samples) < _LEAST_SAMPLES:
        raise ValueError(
            f"samples[{number}] {list(samples.shape)}: expected at least {_LEAST_SAMPLES} of "
            f"shape {list(shape)}"
        )
    if not np.isfinite(samples).all():
        raise NotFiniteError(f"samples[{number}]: expected finite numbers, got inf or nan")
    return samples


def _as_bytes(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples
    return np.clip((samples.astype(np.float32) + 1) * 127.5, 0, 255).round().astype(np.uint8)
