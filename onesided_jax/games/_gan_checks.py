"""Checks whether networks, data and loss fit each other, with ``jax.eval_shape``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from onesided_jax.games.losses import Loss
from onesided_jax.players import PRNGKey, make_key

__all__ = ["check_network", "check_shapes", "find_labels", "find_sampler"]


def check_network(name: str, network: Any) -> tuple[Any, Any]:
    """A network's abstract params and state; ``TypeError`` if it is not a ``Network``."""
    try:
        params, state = jax.eval_shape(network.init, make_key(0))
        if not callable(network.apply):
            raise TypeError("apply cannot be called")
    except Exception as error:
        raise TypeError(
            f"{name}: expected a Network(init, apply), got {type(network).__name__}; "
            "networks.from_nnx and networks.from_linen convert a flax module"
        ) from error
    return params, state


def check_shapes(
    generator: Any,
    primal: tuple[Any, Any],
    discriminator: Any,
    dual: tuple[Any, Any],
    loss: Loss,
    draw: Callable[[PRNGKey, int], Any],
    batch_size: int,
    latent_dim: int,
) -> tuple[Any, Any, tuple[Any, ...]]:
    """Checks that each part accepts the output of the others.

    Args:
      generator: a network.
      primal: the generator's abstract params and state.
      discriminator: a network.
      dual: the discriminator's abstract params and state.
      loss: the loss.
      draw: the data, from `find_sampler`.
      batch_size: samples per minibatch.
      latent_dim: size of a latent.

    Returns:
      Abstract real and generated samples of a minibatch, and a tuple of its labels, if any.

    Raises:
      ValueError: the parts do not fit each other.
    """
    real, labels = _check_data(draw, batch_size)
    fake = _check_latents(generator, *primal, batch_size, latent_dim, labels)
    _check_shape("generator", "samples", fake, real.shape, "like the data's")
    logits = _check_discriminator(discriminator, *dual, real, labels)
    _check_losses(loss, logits)
    return real, fake, labels


def _check_latents(
    generator: Any,
    params: Any,
    state: Any,
    batch_size: int,
    latent_dim: int,
    labels: tuple[Any, ...],
) -> Any:
    """The generator's abstract samples of a minibatch of latents."""
    latent = jax.ShapeDtypeStruct((batch_size, latent_dim), jnp.float32)
    try:
        return _outputs(generator, params, state, latent, *labels)
    except Exception as error:
        raise ValueError(
            f"latent_dim={latent_dim}: the generator rejects float32 latents of shape "
            f"{list(latent.shape)}{_and(labels)}; expected the latent_dim that it was made with. "
            f"It raised {type(error).__name__}: {error}"
        ) from error


def _and(labels: tuple[Any, ...]) -> str:
    return f" and labels {labels[0].dtype}{list(labels[0].shape)}" if labels else ""


def _check_data(draw: Callable[[PRNGKey, int], Any], batch_size: int) -> tuple[Any, Any]:
    """An abstract minibatch of real samples, and a tuple of its labels, if any."""
    real, *labels = jax.eval_shape(lambda key: draw(key, batch_size), make_key(0))
    shape = (batch_size, *getattr(real, "shape", ())[1:])
    _check_shape("data", "samples", real, shape, "batch_size first")
    if not jnp.issubdtype(real.dtype, jnp.floating):
        raise ValueError(
            f"data: expected samples of a floating dtype, got {real.dtype}; "
            "onesided_jax.datasets.scale_pixels converts bytes"
        )
    for label in labels:
        _check_shape("data", "labels", label, (batch_size,), "one per sample")
        if not jnp.issubdtype(label.dtype, jnp.integer):
            raise ValueError(f"data: expected labels of an integer dtype, got {label.dtype}")
    return real, tuple(labels)


def _check_discriminator(
    discriminator: Any, params: Any, state: Any, real: Any, labels: tuple[Any, ...]
) -> Any:
    """The abstract logits of a minibatch of real samples."""
    try:
        logits = _outputs(discriminator, params, state, real, *labels)
    except Exception as error:
        raise ValueError(
            f"discriminator: it rejects samples of shape {list(real.shape)}{_and(labels)}; "
            f"expected one made for the data's shape. It raised {type(error).__name__}: {error}"
        ) from error
    _check_shape("discriminator", "logits", logits, real.shape[:1], "one per sample")
    return logits


def _check_losses(loss: Loss, logits: Any) -> None:
    """Checks that losses are per sample; a loss that takes the mean itself is refused."""
    for name in ("primal", "real", "fake"):
        losses = jax.eval_shape(getattr(loss, name), logits)
        why = "one per sample (the game takes the mean)"
        _check_shape(f"loss.{name}", "losses", losses, logits.shape, why)


def _check_shape(name: str, kind: str, value: Any, shape: tuple[int, ...], why: str) -> None:
    got = getattr(value, "shape", type(value).__name__)
    if got != shape:
        raise ValueError(f"{name}: expected {kind} of shape {shape}, {why}, got {got}")


def _outputs(network: Any, params: Any, state: Any, *inputs: Any) -> Any:
    """A network's abstract outputs in training mode."""
    return jax.eval_shape(lambda *a: network.apply(*a, train=True)[0], params, state, *inputs)


def find_sampler(data: Any, classes: int | None) -> Callable[..., tuple[Any, ...]]:
    """Makes the sampler ``(key, n) -> (samples,)``, or ``(samples, labels)`` with classes.

    Raises:
      ValueError: if labels are missing or not below ``classes``.
      TypeError: if ``data`` is neither a Dataset nor callable.
    """
    draw = getattr(data, "sample", data)
    if not callable(draw):
        raise TypeError(
            f"data: expected a Dataset or a function (key, n) -> samples, got "
            f"{type(data).__name__}; wrap an array in onesided_jax.datasets.from_array"
        )
    if classes is None:
        return _Draw(lambda *arguments: (draw(*arguments),), getattr(draw, "data", ()))
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise ValueError(f"classes={classes!r}: expected an integer >= 2, or None for no labels")
    if not hasattr(data, "labelled"):
        return _Draw(lambda *arguments: _pair(draw(*arguments), classes), getattr(draw, "data", ()))
    if data.labels is None:
        raise ValueError(
            f"classes={classes}: {data.name!r} has no labels; expected data with labels, such as "
            "from_array(images, labels=labels), or classes=None"
        )
    if data.labels.min() < 0 or data.labels.max() >= classes:
        raise ValueError(
            f"classes={classes}: the labels of {data.name!r} go from {data.labels.min()} to "
            f"{data.labels.max()}; expected 0 to {classes - 1}"
        )
    pairs = data.labelled()
    return _Draw(pairs, pairs.data)


class _Draw(NamedTuple):
    """A sampler, and the arrays that it accepts as a last argument."""

    function: Callable[..., tuple[Any, ...]]
    data: Any

    def __call__(self, *arguments: Any) -> tuple[Any, ...]:
        return self.function(*arguments)


def _pair(drawn: Any, classes: int) -> tuple[Any, Any]:
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise ValueError(
            f"classes={classes}: expected data to be a Dataset or a function (key, n) -> (samples, "
            f"labels), got one that returns {type(drawn).__name__}"
        )
    return drawn


def find_labels(labels: Any, n: int, classes: int) -> jax.Array:
    """Broadcasts one label or ``n`` labels to ``int32[n]``; ``ValueError`` if they are invalid."""
    traced = isinstance(labels, Tracer)
    given: Any = labels if traced else np.asarray(labels)
    fits = jnp.issubdtype(given.dtype, jnp.integer) and given.shape in ((), (n,))
    if not fits or not (traced or ((given >= 0) & (given < classes)).all()):
        raise ValueError(
            f"labels={labels!r}: expected integers from 0 to {classes - 1}, one or {n} of them"
        )
    return jnp.broadcast_to(jnp.asarray(given, jnp.int32), (n,))
