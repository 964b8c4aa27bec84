r"""How good a generator's samples are, without the internet.

For labelled images, a small classifier of our own is trained on the real ones, and a generator is
measured on its penultimate features: Fréchet distance, precision and recall, and how evenly its
samples are spread over the classes. For a mixture whose modes are known: the share of modes covered
and of good samples. `quality_gate` makes a yes or no of it: a generator whose gradient vanished
because it collapsed has not been trained successfully.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis._classifier import ClassifierSettings, check_labels, describe, network
from onesided_jax.analysis._classifier_cache import cached_classifier, fingerprint
from onesided_jax.analysis._distances import (
    PrecisionRecall,
    fit_gaussian,
    frechet_distance,
    gaussian_frechet_distance,
    neighbour_distances,
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
from onesided_jax.analysis.inference import Interval, t_interval
from onesided_jax.datasets import Dataset

__all__ = ["NotFiniteError", "Quality", "Reference", "quality", "quality_reference"]

_LEAST_SAMPLES = 10
_MANIFOLD = 2_500  # points, real and generated, of precision and recall: distances are quadratic
_MIXTURE_MEASURES = ("modes", "high_quality")
_CLASS_MEASURES = ("frechet", *PrecisionRecall._fields, "class_coverage", "class_entropy")
_INCEPTION_IMAGES = 50_000  # real ones behind an FID, as is usual


class NotFiniteError(ValueError):
    """Samples that hold inf or nan."""


class Reference(NamedTuple):
    """What samples are compared with, prepared once by :func:`quality_reference`.

    Attributes:
      shape: of one sample.
      measures: names of the measures.
      measure: ``(samples[n, *shape], labels int[n] or None) -> {measure: number}``. With labels,
        the classes that a conditional GAN was asked for, it adds the measures of `label_names`;
        these need labelled images.
      kind: ``"mixture"`` or ``"images"``, which `quality_gate` has rules for, or ``"unlabelled"``.
      about: facts for a report: number of real samples, accuracy of the classifier, ...
    """

    shape: tuple[int, ...]
    measures: tuple[str, ...]
    measure: Callable[..., dict[str, float]]
    kind: str
    about: Mapping[str, Any]

    def label_names(self, classes: int | None) -> tuple[str, ...]:
        """Measures beside ``measures`` where samples of ``classes`` classes have labels."""
        if classes is None or self.kind != "images":
            return ()
        return ("label_accuracy", *(f"label_accuracy_{c}" for c in range(classes)))


class Quality(NamedTuple):
    """Measures of one generator, each on several sets of samples.

    Attributes:
      values: measure to ``f64[K]``, one for each set of samples (evaluation seed).
      intervals: measure to mean and Student's interval over the sets: what the choice of latents
        leaves open, not what another training seed would give.
    """

    values: Mapping[str, Array]
    intervals: Mapping[str, Interval]


def quality_reference(
    data: Dataset | Mixture,
    *,
    inception: str | os.PathLike[str] | None = None,
    seed: int = 0,
    settings: ClassifierSettings | None = None,
) -> Reference:
    """Prepares the comparison with real data: trains the classifier, or finds it in the cache.

    Training takes about ten seconds of two cores for 5,000 MNIST digits, once; the cache is in
    ``$ONESIDED_CACHE`` or the user's cache directory. Features are divided by one number, so that
    the real ones have total variance 1: a generator that always gives the mean of the real features
    is then at a Fréchet distance of 1.

    Args:
      data: labelled images, or a mixture. Images without labels will do with ``inception``.
      inception: TorchScript file of the Inception network, for the standard FID besides (needs
        torch; see `_inception`); measured on the number of samples given, which for a published
        FID is 50,000.
      seed: of the classifier.
      settings: of the classifier; ``None`` takes the defaults.

    Returns:
      :class:`Reference`. Its measures are, for a mixture, ``modes`` and ``high_quality``, shares of
      modes covered and of samples within 3 standard deviations of a mean; for images ``frechet``,
      ``precision``, ``recall``, ``density``, ``coverage``, ``class_coverage``, ``class_entropy``
      (divided by the logarithm of the number of classes), and with Inception ``fid``.

    Raises:
      ValueError: if there is nothing to compare with, or a file is not what was expected;
        FileNotFoundError, ImportError: as for ``inception``.

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
        facts = {"modes": len(mixture.means), "std": mixture.std}
        return Reference(
            mixture.means.shape[1:],
            _MIXTURE_MEASURES,
            lambda samples, labels=None: mixture_measures(samples, mixture),
            "mixture",
            facts,
        )
    images = data.data
    if images is None or images.dtype != np.uint8:
        raise ValueError(f"{data.name}: expected stored images with labels, or a Mixture")
    labelled = data.labels is not None
    if not labelled and inception is None:
        raise ValueError(f"{data.name} has no labels to train a classifier on")
    order = np.random.default_rng(seed).permutation(len(images))  # data may be sorted by class
    parts: list[Callable[..., dict[str, float]]] = []
    facts: dict[str, Any] = {"real_samples": len(images)}
    if inception is not None:
        see = load_inception(inception, data.shape)
        real = fit_gaussian(see(images[order[:_INCEPTION_IMAGES]]))
        facts["inception"] = Path(inception).name

        def measure_fid(samples: np.ndarray, labels: Array | None) -> dict[str, float]:
            return {"fid": gaussian_frechet_distance(real, fit_gaussian(see(samples)))}

        parts.append(measure_fid)
    if labelled:
        measure, more = _class_reference(images, data.labels, order, seed, settings)
        parts.insert(0, measure)
        facts |= more

    def measure_images(samples: np.ndarray, labels: Array | None = None) -> dict[str, float]:
        shown = _as_bytes(samples)
        return {name: v for part in parts for name, v in part(shown, labels).items()}

    names = (*(_CLASS_MEASURES if labelled else ()), *(("fid",) if inception is not None else ()))
    kind = "images" if labelled else "unlabelled"
    return Reference(data.shape, names, measure_images, kind, facts)


def quality(
    samples: Iterable[ArrayLike],
    reference: Reference,
    *,
    level: float = 0.95,
    labels: ArrayLike | None = None,
) -> Quality:
    """Measures a generator on several sets of its samples.

    Args:
      samples: sets ``[n, *shape]`` of equal size, n >= 10, one for each evaluation seed, three or
        more for useful intervals; 10,000 each are usual. May be a generator. Images as a tanh
        generator gives them, in [-1, 1], or bytes; they are measured as the bytes that they would
        be saved as.
      reference: from :func:`quality_reference`.
      level: coverage of the intervals.
      labels: of a conditional GAN, the class ``int[n]`` that each sample of a set was asked for.
        ``label_accuracy`` is then the share of samples that the classifier puts into their class,
        the mean over the classes; ``label_accuracy_7`` is that of class 7.

    Returns:
      :class:`Quality`.

    Raises:
      ValueError: naming the set, if its shape is not the data's; NotFiniteError, which is one, if a
        number is not finite.

    Example:
      >>> import jax
      >>> from onesided_jax.datasets import ring, ring_means
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> found = quality(
      ...     (ring().sample(key, 1000) for key in keys),
      ...     quality_reference(Mixture(ring_means(), std=0.02)),
      ... )
      >>> float(found.intervals["modes"].mean), found.values["high_quality"].shape
      (1.0, (3,))
    """
    asked = None if labels is None else np.asarray(labels)
    found = [
        reference.measure(_checked(np.asarray(part), i, reference.shape), asked)
        for i, part in enumerate(samples)
    ]
    if not found:
        raise ValueError("samples: expected at least one set, got none")
    values = {n: np.array([one[n] for one in found], np.float64) for n in found[0]}
    return Quality(values, {name: t_interval(v, level=level) for name, v in values.items()})


def _class_reference(
    images: np.ndarray,
    labels: Any,
    order: np.ndarray,
    seed: int,
    settings: ClassifierSettings | None,
) -> tuple[Callable[..., dict[str, float]], dict[str, Any]]:
    """The measures on the classifier's features, and facts about them."""
    names = np.unique(labels)  # the classifier numbers the classes that there are
    images, labels, classes = check_labels(images, labels)
    settings = settings or ClassifierSettings()
    trained = cached_classifier(images, labels, seed=seed, settings=settings)
    see = describe(network(images.shape[1:], classes, settings), trained.params)
    real = see(images[order])[0].astype(np.float64)
    scale = np.sqrt(real.var(0).sum())
    real /= scale
    fitted = fit_gaussian(real)
    radii: dict[int, Array] = {}  # per number of points; the same for every run

    def measure(samples: np.ndarray, asked: Array | None = None) -> dict[str, float]:
        features, predicted = see(samples)
        features = features / scale
        count = min(len(real), len(features), _MANIFOLD)
        if count not in radii:
            radii[count] = neighbour_distances(real[:count])
        neighbours = precision_recall(real[:count], features[:count], real_distances=radii[count])
        return {
            "frechet": gaussian_frechet_distance(fitted, fit_gaussian(features)),
            **neighbours._asdict(),
            **class_measures(predicted, classes),
            **({} if asked is None else label_measures(names[predicted], asked)),
        }

    half = len(real) // 2
    return measure, {
        "classifier_accuracy": trained.accuracy,
        "classifier_held_out": trained.held_out,
        "classifier_fingerprint": fingerprint(trained),
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
