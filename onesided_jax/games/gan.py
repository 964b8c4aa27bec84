"""A GAN as a min-max game: the generator is the primal player, the discriminator the dual."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.errors import check_integers
from onesided_jax.games._coupling import couples_samples
from onesided_jax.games._gan_checks import check_network, check_shapes
from onesided_jax.games.game import Game, GameInfo
from onesided_jax.games.losses import Loss, check_penalty, find_loss
from onesided_jax.players import ArrayTree, PrimalDual, PRNGKey

__all__ = ["GanBatch", "gan"]

# A cotangent of the discriminator smaller than this is replaced by it before the shared backward
# pass: its quotient with the generator's stays exact, and what it adds to the discriminator's
# gradient is far below float32 rounding.
_COTANGENT_FLOOR = 1e-20


class GanBatch(NamedTuple):
    """One minibatch of a GAN game.

    Attributes:
      real: ``f[B, *sample_shape]``.
      latent: ``f[B, latent_dim]``, standard normal.
      mix: ``f[B]`` in ``[0, 1)``, the gradient penalty's interpolation weights, or ``()``.
    """

    real: jax.Array
    latent: jax.Array
    mix: Any


def gan(
    *,
    generator: Any,
    discriminator: Any,
    loss: str | Loss,
    data: Any,
    batch_size: int,
    latent_dim: int,
    gradient_penalty: float | None = None,
    head: str = "head",
) -> Game:
    r"""A GAN game from two networks, a loss and a data set.

    The field is :math:`F = (\nabla_x \ell_G, \nabla_y \ell_D)`, both to be descended. The work is
    shared: one generator pass, and, if the discriminator treats its samples independently and
    there is no gradient penalty, one discriminator pass over real and generated samples and one
    backward pass for both players. Otherwise each player gets a backward pass of its own; real and
    generated samples are then normalised apart, and the discriminator's state advances on the real
    ones first. A discriminator with state (BatchNorm) gets separate passes. So does one without,
    unless its traced program shows that each logit depends on the sample of its own row alone:
    minibatch statistics, or an operation that the check does not know, mean separate passes.

    In half precision use bfloat16, not float16, and keep the params in float32
    (flax's ``dtype=jnp.bfloat16``) unless the optimizer keeps its moments there: those of the
    AMSGrad family, ``oadagrad`` and ``acgd`` do; optax's Adam keeps them in the params' dtype, and
    in bfloat16, where 0.999 rounds to 1, its second moments never decay.

    For ``minimax`` the primal loss leaves ``E log sigmoid(D(real))`` out, which does not depend on
    the generator; the field is zero-sum, the two reported losses do not add up to zero.

    Args:
      generator: a :class:`onesided_jax.networks.Network`, or anything with its two functions
        ``init(key) -> (params, state)`` and ``apply(params, state, inputs, train=True) ->
        (outputs, state)``; maps ``f[B, latent_dim]`` to ``f[B, *sample_shape]``.
      discriminator: the same; maps ``f[B, *sample_shape]`` to logits ``f[B]``.
      loss: a key of ``LOSSES`` or a :class:`Loss`.
      data: a :class:`onesided_jax.datasets.Dataset`, or a function
        ``(key, n) -> f[n, *sample_shape]``. One with an attribute ``data`` is called as
        ``(key, n, data)`` in compiled programs, which take the data as an argument.
      batch_size: samples per minibatch, ``>= 1``.
      latent_dim: ``>= 1``.
      gradient_penalty: weight :math:`\lambda \ge 0` of the penalty of ``wasserstein_gp``; ``None``
        is 10. Other losses have no penalty and refuse a weight.
      head: name of the discriminator's last affine layer in its params; negating it flips the
        critic (``flip_dual``). Where there is no such layer the game has no ``flip_dual``.

    Returns:
      A :class:`Game` whose batches are :class:`GanBatch`, whose state is a ``PrimalDual`` of
      network states and whose ``generate`` runs the generator in evaluation mode, on
      ``latent=f[n, latent_dim]`` if that is given too.

    Raises:
      ValueError: for an unknown loss or one that takes the mean itself, a ``gradient_penalty``
        beside a loss that has none, sizes out of range, or
        data, generator and discriminator whose shapes do not fit each other.
      TypeError: if ``data`` cannot be sampled or a network has no ``init`` and ``apply``.

    Example:
      >>> import jax
      >>> from onesided_jax import datasets, games, networks
      >>> generator, discriminator = networks.mlp((2,), latent_dim=8, width=16)
      >>> game = games.gan(
      ...     generator=generator,
      ...     discriminator=discriminator,
      ...     loss="non_saturating",
      ...     data=datasets.load("ring"),
      ...     batch_size=32,
      ...     latent_dim=8,
      ... )
      >>> players, state = game.init(jax.random.key(0))
      >>> F, info = game.field(players, state, game.sample(jax.random.key(1)))
      >>> info.losses.primal.shape
      ()

    References:
      Goodfellow et al., `Generative Adversarial Networks <https://arxiv.org/abs/1406.2661>`_, 2014.
    """
    penalty_weight = check_penalty(loss, gradient_penalty)
    loss = find_loss(loss)
    draw = _sampler(data)
    primal = check_network("generator", generator)
    dual = check_network("discriminator", discriminator)
    check_integers(batch_size=batch_size, latent_dim=latent_dim)
    batch_size, latent_dim = int(batch_size), int(latent_dim)  # NumPy's small ones overflow
    real, fake = check_shapes(
        generator, primal, discriminator, dual, loss, draw, batch_size, latent_dim
    )
    shares = not loss.gradient_penalty and _treats_rows_apart(discriminator, *dual, real, fake)

    def init(key):
        generator_key, discriminator_key = jax.random.split(key)
        generator_params, generator_state = generator.init(generator_key)
        discriminator_params, discriminator_state = discriminator.init(discriminator_key)
        return (
            PrimalDual(generator_params, discriminator_params),
            PrimalDual(generator_state, discriminator_state),
        )

    def sample(key, *stored):
        real_key, latent_key, mix_key = jax.random.split(key, 3)
        return GanBatch(
            real=draw(real_key, batch_size, *stored),
            latent=_latents(latent_key, batch_size, latent_dim),
            mix=jax.random.uniform(mix_key, (batch_size,), jnp.float32)
            if loss.gradient_penalty
            else (),
        )

    def field(players, state, batch):
        def generate_fake(params):
            return generator.apply(params, state.primal, batch.latent, train=True)

        fake, pull_to_generator, generator_state = jax.vjp(
            generate_fake, players.primal, has_aux=True
        )
        shared = shares and not _underflows(players.dual)
        gradients = _shared_gradients if shared else _separate_gradients
        losses, grad_fake, grad_dual, discriminator_state = gradients(
            discriminator, loss, penalty_weight, players.dual, state.dual, batch, fake
        )
        (grad_primal,) = pull_to_generator(grad_fake.astype(fake.dtype))
        new_state = PrimalDual(generator_state, discriminator_state)
        return PrimalDual(grad_primal, grad_dual), GameInfo(losses, new_state)

    def generate(players, state, key, n, latent=None):
        if latent is None:
            latent = _latents(key, n, latent_dim)
        return generator.apply(players.primal, state.primal, latent, train=False)[0]

    def primal_slope(players, state, direction, batch):
        fake, dfake = jax.jvp(
            lambda params: generator.apply(params, state.primal, batch.latent, train=True)[0],
            (players.primal,),
            (direction,),
        )
        return jax.jvp(
            lambda x: loss.primal(discriminator.apply(players.dual, state.dual, x, train=True)[0]),
            (fake,),
            (dfake,),
        )

    def flip_dual(dual):
        return {**dual, head: jax.tree.map(lambda leaf: -leaf, dual[head])}

    dual_params, _ = dual
    has_head = isinstance(dual_params, dict) and head in dual_params
    return Game(
        init=init,
        sample=sample,
        field=field,
        generate=generate,
        flip_dual=flip_dual if has_head else None,
        primal_slope=primal_slope,
        data=getattr(draw, "data", ()),
    )


def _shared_gradients(discriminator, loss, weight, params, state, batch, fake):
    """One discriminator pass and one backward pass for both players.

    Its derivative is that of the separate passes: the quotient of the shared one has none where a
    logit is saturated, or at the minimum of a loss.
    """

    @jax.custom_jvp
    def gradients(*arguments):
        return _one_pass(discriminator, loss, weight, *arguments)

    @gradients.defjvp
    def derivative(arguments, tangents):  # pyright: ignore[reportUnusedFunction]
        separate = functools.partial(_separate_gradients, discriminator, loss, weight)
        return gradients(*arguments), jax.jvp(separate, arguments, tangents)[1]

    return gradients(params, state, batch, fake)


def _one_pass(discriminator, loss, weight, params, state, batch, fake):
    """The gradients of both players.

    Exact because rows do not interact: row ``i`` of the input gradient is linear in the cotangent
    of logit ``i``, so the generator's is the discriminator's times the quotient of cotangents.
    """
    size = fake.shape[0]
    logits, pull_to_discriminator = jax.vjp(
        lambda params, inputs: discriminator.apply(params, state, inputs, train=True)[0],
        params,
        jnp.concatenate([batch.real, fake]),
    )
    if logits.dtype == jnp.float16:  # it cannot hold the floor; the quotient would be 0 / 0
        return _separate_gradients(discriminator, loss, weight, params, state, batch, fake)
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


def _separate_gradients(discriminator, loss, weight, params, state, batch, fake):
    """A backward pass per player: for networks that couple samples, and gradient penalties."""

    def dual_loss(params):
        real_logits, new_state = discriminator.apply(params, state, batch.real, train=True)
        fake_logits, new_state = discriminator.apply(params, new_state, fake, train=True)
        value = jnp.mean(loss.real(real_logits)) + jnp.mean(loss.fake(fake_logits))
        if loss.gradient_penalty:
            value += weight * _gradient_penalty(discriminator, params, state, batch, fake)
        return value, new_state

    def primal_loss(inputs):
        logits, _ = discriminator.apply(params, state, inputs, train=True)
        return jnp.mean(loss.primal(logits))

    (dual_value, new_state), grad_dual = jax.value_and_grad(dual_loss, has_aux=True)(params)
    primal_value, grad_fake = jax.value_and_grad(primal_loss)(fake)
    return PrimalDual(primal_value, dual_value), grad_fake, grad_dual, new_state


def _gradient_penalty(discriminator, params, state, batch, fake):
    """``E (||grad D(mixed)|| - 1)^2`` at points between real and generated samples."""
    mix = batch.mix.reshape((-1,) + (1,) * (fake.ndim - 1))
    mixed = mix * batch.real + (1 - mix) * fake
    grad = jax.grad(lambda x: jnp.sum(discriminator.apply(params, state, x, train=True)[0]))(mixed)
    squared = jnp.sum(grad**2, axis=tuple(range(1, grad.ndim)))
    # sqrt has no derivative at 0; a dead critic has gradient 0 there.
    norm = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    return jnp.mean((norm - 1) ** 2)


def _latents(key: PRNGKey, n: int, latent_dim: int) -> jax.Array:
    """``jax.random.normal(key, (n, latent_dim))``, the same numbers.

    Drawn as one row: XLA:CPU takes two and a half times as long for the matrix.
    """
    return jax.random.normal(key, (n * latent_dim,), jnp.float32).reshape(n, latent_dim)


def _value_and_slope(
    function: Callable[[jax.Array], jax.Array], logits: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Per-sample losses and the derivative of their mean with respect to each logit."""
    value, pull = jax.vjp(function, logits)
    return value, pull(jnp.full_like(value, 1 / logits.shape[0]))[0]


def _treats_rows_apart(discriminator: Any, params: Any, state: Any, real: Any, fake: Any) -> bool:
    """Whether one pass over real and generated samples is that of each; BatchNorm has state."""
    rows = jax.eval_shape(lambda *parts: jnp.concatenate(parts), real, fake)
    stateful = bool(jax.tree.leaves(state))
    return not stateful and not couples_samples(discriminator, params, state, rows)


def _underflows(params: Any) -> bool:
    """Whether the shared backward pass would not be exact: float16 cannot hold the floor."""
    return any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(params))


def _sampler(data: Any) -> Callable[..., ArrayTree]:
    draw = getattr(data, "sample", data)
    if not callable(draw):
        raise TypeError(
            f"data: expected a Dataset or a function (key, n) -> samples, got "
            f"{type(data).__name__}; wrap an array in onesided_jax.datasets.from_array"
        )
    return draw
