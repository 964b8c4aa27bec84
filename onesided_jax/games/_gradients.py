"""Gradients of a GAN's two players on one minibatch, in one shared pass or in two."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.games.losses import Loss
from onesided_jax.players import PrimalDual

__all__ = ["Objective", "separate_gradients", "shared_gradients"]

# Smaller cotangents of the discriminator are raised to this floor before the shared backward pass.
# The quotient with the generator's cotangent stays exact, and the addition to the discriminator's
# gradient is far below float32 rounding.
_COTANGENT_FLOOR = 1e-20


class Objective(NamedTuple):
    """The losses of both players.

    Attributes:
      discriminator: the network.
      loss: of the discriminator's logits.
      gradient_penalty: weight of ``E (||grad D|| - 1)^2`` between real and generated samples;
        ``None`` for no such term.
      r1: weight of ``E ||grad D||^2 / 2`` at real samples; 0 for no such term.
    """

    discriminator: Any
    loss: Loss
    gradient_penalty: float | None
    r1: float

    @property
    def is_penalized(self) -> bool:
        """Whether the discriminator's loss has a gradient penalty."""
        return self.gradient_penalty is not None or bool(self.r1)


def shared_gradients(objective, params, state, batch, fake):
    """One discriminator pass and one backward pass for both players.

    Its derivative is that of the separate passes. The quotient in the shared pass has no derivative
    at a saturated logit or at the minimum of a loss.
    """

    @jax.custom_jvp
    def gradients(*arguments):
        return _one_pass(objective, *arguments)

    @gradients.defjvp
    def derivative(arguments, tangents):  # pyright: ignore[reportUnusedFunction]
        separate = functools.partial(separate_gradients, objective)
        return gradients(*arguments), jax.jvp(separate, arguments, tangents)[1]

    return gradients(params, state, batch, fake)


def _one_pass(objective, params, state, batch, fake):
    """The shared pass, exact because rows do not interact.

    Row ``i`` of the input gradient is linear in the cotangent of logit ``i``. So the generator's
    gradient is the discriminator's times the quotient of their cotangents.
    """
    discriminator, loss, size = objective.discriminator, objective.loss, fake.shape[0]
    labels = [jnp.concatenate([labels, labels]) for labels in batch.labels]
    logits, pull_to_discriminator = jax.vjp(
        lambda params, inputs: discriminator.apply(params, state, inputs, *labels, train=True)[0],
        params,
        jnp.concatenate([batch.real, fake]),
    )
    if logits.dtype == jnp.float16:  # the floor underflows in float16, so the quotient is 0 / 0
        return separate_gradients(objective, params, state, batch, fake)
    real_logits, fake_logits = logits[:size], logits[size:]
    real_loss, real_cotangent = _value_and_slope(loss.real, real_logits)
    fake_loss, fake_cotangent = _value_and_slope(loss.fake, fake_logits)
    primal_loss, primal_cotangent = _value_and_slope(loss.primal, fake_logits)
    sign = jnp.where(fake_cotangent < 0, -1.0, 1.0).astype(fake_cotangent.dtype)
    fake_cotangent = sign * jnp.maximum(jnp.abs(fake_cotangent), _COTANGENT_FLOOR)
    grad_dual, grad_inputs = pull_to_discriminator(
        jnp.concatenate([real_cotangent, fake_cotangent])
    )
    quotient = (primal_cotangent / fake_cotangent).reshape((size,) + (1,) * (fake.ndim - 1))
    losses = PrimalDual(jnp.mean(primal_loss), jnp.mean(real_loss) + jnp.mean(fake_loss))
    return losses, grad_inputs[size:] * quotient, grad_dual, state


def separate_gradients(objective, params, state, batch, fake):
    """One backward pass per player, for networks that couple samples and for gradient penalties."""
    loss = objective.loss

    def apply(params, state, inputs):
        return objective.discriminator.apply(params, state, inputs, *batch.labels, train=True)

    def dual_loss(params):
        real_logits, new_state = apply(params, state, batch.real)
        fake_logits, new_state = apply(params, new_state, fake)
        value = jnp.mean(loss.real(real_logits)) + jnp.mean(loss.fake(fake_logits))
        if objective.gradient_penalty is not None:
            penalty = _gradient_penalty(lambda x: apply(params, state, x)[0], batch, fake)
            value += objective.gradient_penalty * penalty
        if objective.r1:
            squared = _squared_slopes(lambda x: apply(params, state, x)[0], batch.real)
            value += objective.r1 / 2 * jnp.mean(squared)
        return value, new_state

    def primal_loss(inputs):
        logits, _ = apply(params, state, inputs)
        return jnp.mean(loss.primal(logits))

    (dual_value, new_state), grad_dual = jax.value_and_grad(dual_loss, has_aux=True)(params)
    primal_value, grad_fake = jax.value_and_grad(primal_loss)(fake)
    return PrimalDual(primal_value, dual_value), grad_fake, grad_dual, new_state


def _gradient_penalty(critic, batch, fake):
    """``E (||grad D(mixed)|| - 1)^2`` at points between real and generated samples."""
    mix = batch.mix.reshape((-1,) + (1,) * (fake.ndim - 1))
    mixed = mix * batch.real + (1 - mix) * fake
    squared = _squared_slopes(critic, mixed)
    # sqrt has no derivative at 0; where the critic's gradient is 0, take derivative 0.
    norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return jnp.mean((norm - 1) ** 2)


def _squared_slopes(critic, inputs):
    """``||grad D||^2`` at every sample."""
    grad = jax.grad(lambda x: jnp.sum(critic(x)))(inputs)
    return jnp.sum(grad**2, axis=tuple(range(1, grad.ndim)))


def _value_and_slope(
    function: Callable[[jax.Array], jax.Array], logits: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Per-sample losses and the derivative of their mean with respect to each logit."""
    value, pull = jax.vjp(function, logits)
    return value, pull(jnp.full_like(value, 1 / logits.shape[0]))[0]
