"""Do networks, data and loss fit each other? Checks shapes; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from onesided_jax.games.losses import Loss
from onesided_jax.players import PRNGKey, make_key

__all__ = ["check_network", "check_shapes"]


def check_network(name: str, network: Any) -> tuple[Any, Any]:
    """A network's abstract params and state; ``TypeError`` if it is no pair of pure functions."""
    try:
        params, state = jax.eval_shape(network.init, make_key(0))
        if not callable(network.apply):
            raise TypeError("apply cannot be called")
    except Exception as error:
        raise TypeError(
            f"{name}: expected a Network(init, apply), got {type(network).__name__}; "
            "networks.from_nnx and networks.from_linen make one of a flax module"
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
) -> tuple[Any, Any]:
    """Check that each part takes what another one makes.

    Args:
      generator: a network.
      primal: its abstract params and state.
      discriminator: a network.
      dual: its abstract params and state.
      loss: the loss.
      draw: the data.
      batch_size: samples of a minibatch.
      latent_dim: size of a latent.

    Returns:
      Abstract real and generated samples of a minibatch.

    Raises:
      ValueError: the parts do not fit each other.
    """
    fake = _check_latents(generator, *primal, batch_size, latent_dim)
    real = _check_data(draw, batch_size)
    _check_shape("generator", "samples", fake, real.shape, "like the data's")
    logits = _check_discriminator(discriminator, *dual, real)
    _check_losses(loss, logits)
    return real, fake


def _check_latents(
    generator: Any, params: Any, state: Any, batch_size: int, latent_dim: int
) -> Any:
    """The generator's abstract samples of a minibatch of latents."""
    latent = jax.ShapeDtypeStruct((batch_size, latent_dim), jnp.float32)
    try:
        return _outputs(generator, params, state, latent)
    except Exception as error:
        raise ValueError(
            f"latent_dim={latent_dim}: the generator takes no float32 latents of shape "
            f"{list(latent.shape)}; expected the latent_dim that it was made with. "
            f"It raised {type(error).__name__}: {error}"
        ) from error


def _check_data(draw: Callable[[PRNGKey, int], Any], batch_size: int) -> Any:
    """An abstract minibatch of real samples."""
    real = jax.eval_shape(lambda key: draw(key, batch_size), make_key(0))
    shape = (batch_size, *getattr(real, "shape", ())[1:])
    _check_shape("data", "samples", real, shape, "as many as asked for")
    if not jnp.issubdtype(real.dtype, jnp.floating):
        raise ValueError(
            f"data: expected samples of a floating dtype, got {real.dtype}; "
            "onesided_jax.datasets.scale_pixels makes them of bytes"
        )
    return real


def _check_discriminator(discriminator: Any, params: Any, state: Any, real: Any) -> Any:
    """The abstract logits of a minibatch of real samples."""
    try:
        logits = _outputs(discriminator, params, state, real)
    except Exception as error:
        raise ValueError(
            f"discriminator: it takes no samples of shape {list(real.shape)}; "
            f"expected one made for the data's. It raised {type(error).__name__}: {error}"
        ) from error
    _check_shape("discriminator", "logits", logits, real.shape[:1], "one a sample")
    return logits


def _check_losses(loss: Loss, logits: Any) -> None:
    """The mean over samples is the game's to take: a loss that is one already is not per sample."""
    for name in ("primal", "real", "fake"):
        losses = jax.eval_shape(getattr(loss, name), logits)
        why = "one a sample (the game takes the mean)"
        _check_shape(f"loss.{name}", "losses", losses, logits.shape, why)


def _check_shape(name: str, what: str, found: Any, shape: tuple[int, ...], why: str) -> None:
    got = getattr(found, "shape", type(found).__name__)
    if got != shape:
        raise ValueError(f"{name}: expected {what} of shape {shape}, {why}, got {got}")


def _outputs(network: Any, params: Any, state: Any, inputs: Any) -> Any:
    """What a network makes of abstract inputs."""
    return jax.eval_shape(lambda *a: network.apply(*a, train=True)[0], params, state, inputs)
