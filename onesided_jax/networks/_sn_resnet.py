"""The residual GAN of the spectral normalisation paper, for 32 x 32 photographs."""

from __future__ import annotations

import functools
import math
import operator
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from onesided_jax.errors import check_integers
from onesided_jax.networks._classes import check_classes, embedding, join_class, project_class
from onesided_jax.networks.conv import choose_form, conv, conv_transpose
from onesided_jax.networks.layers import Conv
from onesided_jax.networks.network import Network, from_nnx
from onesided_jax.networks.spectral import spectral_normalize

__all__ = ["sn_resnet"]

DOUBLINGS = 3  # of the generator: 4 -> 8 -> 16 -> 32
HALVINGS = 2  # of the discriminator: 32 -> 16 -> 8
MOMENTUM = 0.9  # of BatchNorm's running statistics; only evaluation uses them


def sn_resnet(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    latent_dim: int = 128,
    width: int = 64,
    *,
    conv: str = "auto",
    classes: int | None = None,
) -> tuple[Network, Network]:
    r"""Builds a residual GAN with a spectrally normalised discriminator.

    With ``width=128`` this is the network of Miyato et al. for CIFAR-10 (their table 4). For
    32 x 32 images and width w:

    - generator: dense to 4 x 4 x 2w, three residual blocks that double the size, BatchNorm, ReLU,
      convolution to C channels, tanh. A block is BatchNorm, ReLU, upsampling, convolution,
      BatchNorm, ReLU, convolution; its shortcut is an upsampled 1 x 1 convolution;
    - discriminator: two residual blocks of w channels that halve the size, two that keep it, ReLU,
      sum over all pixels, dense to one logit. A block is ReLU, convolution, ReLU, convolution (and
      mean over 2 x 2); its shortcut is a 1 x 1 convolution if shapes change, with the same mean.
      The first block has no leading ReLU.

    Convolutions are 3 x 3 and upsampling repeats pixels. Weights are initialised as in flax (LeCun
    normal; Miyato et al. use Glorot uniform), biases with zero. The generator's blocks have no
    biases, because BatchNorm would remove them.

    Every weight of the discriminator, as a matrix ``[9 C, F]``, is divided by its spectral norm.
    The paper tracks the norm with one step of power iteration per training step. Here a Schatten
    norm of order 2048 computes it (at most 0.3 % too large). So the discriminator has no state and
    treats samples independently, and both players' gradients are derivatives of one smooth
    function. The generator's BatchNorm statistics are state.

    Args:
      image_shape: ``(H, W, C)``; H and W multiples of 8.
      latent_dim: length of the generator's input, at least 1.
      width: channels of the discriminator, half the generator's, at least 1.
      conv: form of the convolutions, ``"auto"``, ``"gemm"`` or ``"native"``; see
        `onesided_jax.networks.choose_form`.
      classes: number of classes for a conditional GAN, at least 2; see `dcgan`.

    Returns:
      ``(generator, discriminator)``. The generator maps latents ``f32[B, latent_dim]`` to images
      ``f32[B, H, W, C]`` in (-1, 1); the discriminator maps images to logits ``f32[B]`` and has
      the empty state ``()``. The discriminator's last layer is ``params["head"]``; negating it
      flips the sign of the logits.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> generator, discriminator = sn_resnet((16, 16, 3), latent_dim=8, width=4)
      >>> def logits(key):
      ...     images, _ = generator.apply(*generator.init(key), jnp.ones((2, 8)))
      ...     return discriminator.apply(*discriminator.init(key), images)[0]
      >>> jax.eval_shape(logits, jax.random.key(0)).shape
      (2,)

    References:
      Miyato, Kataoka, Koyama, Yoshida, Spectral normalization for generative adversarial networks,
      ICLR 2018, arXiv:1802.05957, section 2 and table 4.
    """
    check_classes(classes)
    coarsest, channels = _coarsest(image_shape)
    check_integers(latent_dim=latent_dim, width=width)
    choose_form(conv)
    return (
        from_nnx(
            lambda rngs: _Generator(
                (*coarsest, 2 * width), channels, latent_dim, classes, conv, rngs
            )
        ),
        from_nnx(lambda rngs: _Discriminator(channels, width, classes, conv, rngs)),
    )


def _coarsest(image_shape: tuple[int, int, int]) -> tuple[tuple[int, int], int]:
    """The size that the generator starts from, and the channels of the images."""
    if not isinstance(image_shape, tuple | list) or len(image_shape) != 3:
        raise ValueError(
            f"image_shape must be (height, width, channels), as (32, 32, 3); got {image_shape!r}"
        )
    height, width, channels = image_shape
    check_integers(height=height, width=width, channels=channels)
    factor = 2**DOUBLINGS
    if height % factor or width % factor:
        nearest = tuple(max(round(n / factor), 1) * factor for n in (height, width))
        raise ValueError(
            f"sn_resnet doubles height and width {DOUBLINGS} times, so both must be multiples of "
            f"{factor}; got image_shape={tuple(image_shape)!r}, "
            f"nearest valid: {(*nearest, channels)!r}"
        )
    return (height // factor, width // factor), channels


class _Conv(nnx.Module):
    """A convolution, optionally spectrally normalised, after doubling or before halving.

    Doubling and a 3 x 3 convolution are one transposed 4 x 4 convolution of stride 2. A 3 x 3
    convolution and a mean over 2 x 2 pixels are one 4 x 4 convolution of stride 2. Both take 4/9 of
    the work.
    """

    def __init__(
        self,
        features: tuple[int, int],
        form: str,
        rngs: nnx.Rngs,
        *,
        size: int = 3,
        spectral: bool = False,
        use_bias: bool = True,
        resize: Literal["double", "halve"] | None = None,
    ):
        layer = Conv(*features, (size, size), use_bias=use_bias, rngs=rngs)
        self.kernel, self.bias = layer.kernel, layer.bias
        self.form, self.spectral, self.resize = form, spectral, resize

    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel = _promoted(x, self.kernel[...])
        if self.spectral:
            kernel = spectral_normalize(kernel)
        if self.resize == "double":
            y = conv_transpose(x, _twice(kernel), 2, form=self.form)
        elif self.resize == "halve":
            y = conv(x, _twice(kernel) / 4, 2, form=self.form)
        elif kernel.shape[3] < kernel.shape[2]:
            # At stride 1 this equals conv. With fewer output channels, products are smaller than
            # patches, so this takes less memory and time (a fifth, from 64 to 3 channels).
            y = conv_transpose(x, kernel, 1, form=self.form)
        else:
            y = conv(x, kernel, form=self.form)
        return y if self.bias is None else y + self.bias[...].reshape(1, 1, 1, -1)


def _promoted(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Casts both to their common dtype, as flax's layers do."""
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    return x.astype(dtype), kernel.astype(dtype)


def _twice(kernel: jax.Array) -> jax.Array:
    """Sum of a kernel's four shifts by up to one pixel, ``[4, 4, C, F]``."""
    shifts = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
    return functools.reduce(operator.add, (jnp.pad(kernel, pads) for pads in shifts))


def _batch_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(features, momentum=MOMENTUM, use_fast_variance=False, rngs=rngs)


def _double(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return wide.reshape(b, 2 * h, 2 * w, c)


def _halve(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class _UpBlock(nnx.Module):
    def __init__(self, width: int, form: str, rngs: nnx.Rngs):
        # The next normalisation removes a bias, so its gradient would be pure rounding error.
        # Optimizers that divide by the gradient's size would turn it into a random walk.
        layer = functools.partial(_Conv, (width, width), form, rngs, use_bias=False)
        self.norms = nnx.List(_batch_norm(width, rngs) for _ in range(2))
        self.convs = nnx.List([layer(resize="double"), layer()])
        self.shortcut = layer(size=1)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.convs[0](jax.nn.relu(self.norms[0](x)))
        y = self.convs[1](jax.nn.relu(self.norms[1](y)))
        # Doubling commutes with a 1 x 1 convolution; this order costs a quarter.
        return _double(self.shortcut(x)) + y


class _Generator(nnx.Module):
    def __init__(
        self,
        coarsest: tuple[int, int, int],
        channels: int,
        latent_dim: int,
        classes: int | None,
        form: str,
        rngs: nnx.Rngs,
    ):
        self.coarsest, width = coarsest, coarsest[2]
        inputs = latent_dim if classes is None else 2 * latent_dim
        self.dense = nnx.Linear(inputs, math.prod(coarsest), rngs=rngs)
        self.blocks = nnx.List(_UpBlock(width, form, rngs) for _ in range(DOUBLINGS))
        self.norm = _batch_norm(width, rngs)
        self.last = _Conv((width, channels), form, rngs)
        self.classes = embedding(classes, latent_dim, 1.0, rngs)

    def __call__(self, latents: jax.Array, *labels: jax.Array) -> jax.Array:
        x = self.dense(join_class(latents, labels, self.classes)).reshape(-1, *self.coarsest)
        for block in self.blocks:
            x = block(x)
        return jnp.tanh(self.last(jax.nn.relu(self.norm(x))))


class _DownBlock(nnx.Module):
    """A block that halves, or that keeps the shape and has no shortcut layer."""

    def __init__(
        self, features: tuple[int, int], form: str, rngs: nnx.Rngs, *, first: bool, halves: bool
    ):
        layer = functools.partial(_Conv, form=form, rngs=rngs, spectral=True)
        inner = (features[1], features[1])
        self.convs = nnx.List([layer(features), layer(inner, resize="halve" if halves else None)])
        self.shortcut = layer(features, size=1) if halves else None
        self.first = first

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.convs[0](x if self.first else jax.nn.relu(x))
        y = self.convs[1](jax.nn.relu(y))
        # Halving commutes with a 1 x 1 convolution; this order costs a quarter.
        return y + (x if self.shortcut is None else self.shortcut(_halve(x)))


class _SpectralHead(nnx.Module):
    def __init__(self, inputs: int, classes: int | None, rngs: nnx.Rngs):
        layer = nnx.Linear(inputs, 1, rngs=rngs)
        self.kernel, self.bias = layer.kernel, layer.bias
        self.classes = embedding(classes, inputs, inputs**-0.5, rngs)

    def __call__(self, x: jax.Array, *labels: jax.Array) -> jax.Array:
        x, kernel = _promoted(x, self.kernel[...])
        y = x @ spectral_normalize(kernel)
        y = y if self.bias is None else y + self.bias[...][None]
        table = None if self.classes is None else spectral_normalize(self.classes[...])
        return project_class(y[:, 0], x, labels, table)


class _Discriminator(nnx.Module):
    def __init__(self, channels: int, width: int, classes: int | None, form: str, rngs: nnx.Rngs):
        inputs = [channels, width, width, width]
        self.blocks = nnx.List(
            _DownBlock((c, width), form, rngs, first=i == 0, halves=i < HALVINGS)
            for i, c in enumerate(inputs)
        )
        self.head = _SpectralHead(width, classes, rngs)

    def __call__(self, images: jax.Array, *labels: jax.Array) -> jax.Array:
        x = images
        for block in self.blocks:
            x = block(x)
        return self.head(jax.nn.relu(x).sum((1, 2)), *labels)
