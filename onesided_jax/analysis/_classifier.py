"""A small classifier, trained on the real labelled images; `quality` uses its features.

Inception needs a download, and was trained on photographs. A classifier trained on the data
themselves has features that separate their classes. Its Fréchet distances compare runs on one data
set; they are not comparable with published FIDs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import ArrayLike

from onesided_jax.datasets import scale_pixels
from onesided_jax.networks import Conv, Network, from_nnx
from onesided_jax.players import make_key

__all__ = ["ClassifierSettings", "Trained", "check_labels", "describe", "train_classifier"]

_COARSEST = 8  # rows and columns are halved until they are at most this: 28 -> 14 -> 7
_KERNEL = (4, 4)
_STRIDE = 2
_EVALUATION_BATCH = 100  # on a CPU twice as fast as 500, because patches stay in the cache


class ClassifierSettings(NamedTuple):
    """Architecture and training of the classifier.

    Attributes:
      width: channels of the first convolution; the others have twice as many.
      features: length of the penultimate layer.
      batch_size: images per step.
      presentations: images shown in training, so that small and large data sets cost the same.
      least_epochs: minimum number of epochs.
      learning_rate: peak of AdamW's one-cycle schedule.
      weight_decay: weight decay of AdamW.
      shift: maximum shift of training batches in pixels; it adds about 1% of accuracy on 4,000
        digits.
      held_out: share of the images held out to measure the accuracy.
      most_held_out: maximum number of held-out images.
    """

    width: int = 32
    features: int = 64
    batch_size: int = 64
    presentations: int = 50_000
    least_epochs: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    shift: int = 2
    held_out: float = 0.2
    most_held_out: int = 10_000


class Trained(NamedTuple):
    """A trained classifier.

    Attributes:
      params: params of the network, on the host.
      accuracy: accuracy on held-out images.
      held_out: number of held-out images.
    """

    params: Any
    accuracy: float
    held_out: int


class _Net(nnx.Module):
    def __init__(
        self, shape: tuple[int, ...], width: int, features: int, classes: int, rngs: nnx.Rngs
    ):
        height, wide, channels = shape
        levels = max(1, math.ceil(math.log2(max(height, wide) / _COARSEST)))
        widths = [width, *[2 * width] * (levels - 1)]
        self.convs = nnx.List(
            Conv(a, b, _KERNEL, _STRIDE, rngs=rngs) for a, b in zip([channels, *widths], widths)
        )
        pixels = math.prod(-(-n // _STRIDE**levels) for n in (height, wide))
        self.dense = nnx.Linear(pixels * widths[-1], features, rngs=rngs)
        self.head = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = images
        for layer in self.convs:
            x = jax.nn.relu(layer(x))
        features = jax.nn.relu(self.dense(x.reshape(x.shape[0], -1)))
        return features, self.head(features)


@functools.cache
def network(shape: tuple[int, ...], classes: int, settings: ClassifierSettings) -> Network:
    """The classifier for images of a shape; ``apply`` returns ``(features, logits)``."""
    return from_nnx(lambda rngs: _Net(shape, settings.width, settings.features, classes, rngs))


def check_labels(images: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns images ``uint8[N, H, W, C]``, classes ``int32[N]`` from 0 on, and their number.

    Raises:
      ValueError: for other shapes or dtypes, fewer than two classes or fewer than 10 images.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 10:
        raise ValueError(
            f"a classifier needs at least 10 images uint8[N, H, W, C]; "
            f"got {images.dtype}{list(images.shape)}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"a classifier needs labels int[{len(images)}], one per image; "
            f"got {labels.dtype}{list(labels.shape)}"
        )
    values, classes = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(f"a classifier needs at least 2 classes; every label is {values[0]}")
    return images, classes.astype(np.int32), len(values)


def train_classifier(
    images: ArrayLike, labels: ArrayLike, *, seed: int, settings: ClassifierSettings
) -> Trained:
    """Trains the classifier in float32; deterministic on one machine.

    Args:
      images: ``uint8[N, H, W, C]``.
      labels: classes, ``int[N]``.
      seed: seed of initialisation, split and order.
      settings: architecture and training.

    Raises:
      ValueError: as :func:`check_labels`.
    """
    images, labels, classes = check_labels(images, labels)
    order = np.random.default_rng(seed).permutation(len(images))
    held_out = max(1, min(int(settings.held_out * len(images)), settings.most_held_out))
    test, train = order[:held_out], order[held_out:]
    batch = min(settings.batch_size, len(train))
    epochs = max(settings.least_epochs, round(settings.presentations / len(train)))
    with jax.enable_x64(False):
        net = network(images.shape[1:], classes, settings)
        steps = epochs * (len(train) // batch)
        schedule = optax.cosine_onecycle_schedule(steps, settings.learning_rate)
        tx = optax.adamw(schedule, weight_decay=settings.weight_decay)
        epoch = _epoch(net, tx, batch, settings.shift)
        key = make_key(seed)
        params, _ = jax.jit(net.init)(key)
        carry = (params, tx.init(params))
        data = jnp.asarray(images[train]), jnp.asarray(labels[train])
        for i in range(epochs):
            carry = epoch(carry, jax.random.fold_in(key, i), *data)
        params = jax.tree.map(np.asarray, carry[0])
        predicted = describe(net, params)(images[test])[1]
    return Trained(params, float((predicted == labels[test]).mean()), held_out)


def _epoch(net: Network, tx: optax.GradientTransformation, batch: int, shift: int) -> Callable:
    def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        _, logits = net.apply(params, (), images)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(carry: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
        steps = len(images) // batch
        order_key, shift_key = jax.random.split(key)
        rows = jax.random.permutation(order_key, len(images))[: steps * batch]
        shifts = jax.random.randint(shift_key, (steps, 2), -shift, shift + 1)

        def step(carry: Any, inputs: Any) -> tuple[Any, None]:
            params, state = carry
            rows, moved = inputs
            shown = jnp.roll(scale_pixels(images[rows]), moved, (1, 2))
            gradient = jax.grad(loss)(params, shown, labels[rows])
            updates, state = tx.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, (rows.reshape(steps, batch), shifts))[0]

    return epoch


def describe(net: Network, params: Any) -> Callable[[ArrayLike], tuple[np.ndarray, np.ndarray]]:
    """Returns ``images -> (features f32[n, d], classes int32[n])``; uint8, or floats in [-1, 1]."""

    @jax.jit
    def batch(params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        scaled = scale_pixels(images) if images.dtype == jnp.uint8 else images
        features, logits = net.apply(params, (), scaled, train=False)[0]
        return features, jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def every(images: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(images)
        found = []
        with jax.enable_x64(False):
            for start in range(0, len(images), _EVALUATION_BATCH):
                part = images[start : start + _EVALUATION_BATCH]
                padding = [(0, _EVALUATION_BATCH - len(part)), *[(0, 0)] * (part.ndim - 1)]
                whole = batch(params, jnp.asarray(np.pad(part, padding)))
                found.append([np.asarray(a)[: len(part)] for a in whole])
        features, classes = (np.concatenate(a) for a in zip(*found, strict=True))
        return features, classes

    return every
