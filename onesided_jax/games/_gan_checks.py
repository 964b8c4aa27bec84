"""Do networks, data and loss fit each other? Asked of abstract values, before any work is done."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.games.losses import Loss
from onesided_jax.players import PRNGKey, make_key

__all__ = ["check_network", "check_shapes", "samples_interact"]

_PROBE_ROWS = 4
# Rounding may differ between two calls on some accelerators; a smaller influence of one sample on
# another's logit is an error of that size in the gradients.
_INFLUENCE = 1e-6


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
) -> jax.ShapeDtypeStruct:
    """An abstract minibatch of real samples.

    Raises ``ValueError`` if what one part makes is not what the next one takes.

    Args:
      generator: a network.
      primal: its abstract params and state.
      discriminator: a network.
      dual: its abstract params and state.
      loss: the loss.
      draw: the data.
      batch_size: samples of a minibatch.
      latent_dim: size of a latent.
    """
    fake = _check_latents(generator, *primal, batch_size, latent_dim)
    real = _check_data(draw, batch_size)
    _check_shape("generator", "samples", fake, real.shape, "like the data's")
    logits = _check_discriminator(discriminator, *dual, real)
    _check_losses(loss, logits)
    return real


def samples_interact(discriminator: Any, dual: tuple[Any, Any], real: Any) -> bool:
    """Whether the logit of one sample depends on the other samples of its batch.

    Changes one row of a small random batch, at random params, because params as they are
    initialised may hide a layer behind zeros. Where this shows nothing (the changed row's own logit
    stays, or is not finite, or the discriminator closes over traced values), the answer is True.

    Args:
      discriminator: a network without state.
      dual: its abstract params and state.
      real: an abstract minibatch.
    """
    params, state = dual
    for rows in (_PROBE_ROWS, 2 * real.shape[0]):  # some networks need a multiple of their groups
        rng = np.random.default_rng(0)
        try:
            batch = _normal(rng, (rows, *real.shape[1:]), real.dtype)
            changed = np.concatenate([10 * _normal(rng, batch[:1].shape, real.dtype), batch[1:]])
            weights = jax.tree.map(functools.partial(_normal_like, rng), params)
            with jax.ensure_compile_time_eval(), jax.debug_nans(False), jax.debug_infs(False):
                logits = [
                    np.asarray(_logits(discriminator.apply, weights, state, inputs), np.float64)
                    for inputs in (batch, changed)
                ]
        except Exception:  # whatever a network raises, two separate passes are right
            continue
        own, *others = np.abs(logits[1] - logits[0])
        return not (own > 0 and np.max(others) <= _INFLUENCE * own)
    return True


@functools.partial(jax.jit, static_argnums=0)
def _logits(apply: Callable[..., Any], params: Any, state: Any, inputs: Any) -> jax.Array:
    return apply(params, state, inputs, train=True)[0]


def _normal_like(rng: np.random.Generator, leaf: Any) -> np.ndarray:
    return _normal(rng, leaf.shape, leaf.dtype)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Normal numbers, for weights of the size that an initialiser gives them."""
    fan_in = math.prod(shape[:-1]) if len(shape) > 1 else 1
    numbers = rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(max(fan_in, 1)))
    return np.asarray(numbers, dtype)


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
