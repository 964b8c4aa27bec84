"""DCGAN, with or without BatchNorm: the image GAN of this package's experiments."""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias, get_args

import jax
from flax import nnx

from onesided_jax.errors import check_choice, check_integers
from onesided_jax.networks._classes import Head, check_classes, embedding, join_class
from onesided_jax.networks.conv import choose_form
from onesided_jax.networks.layers import Conv, ConvTranspose
from onesided_jax.networks.network import Network, from_nnx

__all__ = ["dcgan"]

KERNEL = (4, 4)  # DCGAN's kernel; twice the stride, so every output gets equally many taps
STRIDE = 2
COARSEST = 7  # halving stops at this many rows or columns or fewer: 28 -> 14 -> 7, 32 -> ... -> 4
MOMENTUM = 0.9  # of the running statistics, as in the authors' code; only evaluation uses them
LEAK = 0.2  # slope of the discriminator's leaky ReLU (Radford et al. 2016, section 3)

Normalization: TypeAlias = Literal["none", "batch"]


def dcgan(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    latent_dim: int = 64,
    width: int = 32,
    *,
    conv: str = "auto",
    normalization: str = "none",
    classes: int | None = None,
) -> tuple[Network, Network]:
    """Builds a DCGAN: a convolutional generator and discriminator of images.

    H and W are halved together, rounded up, while the smaller exceeds 7; channels double at each
    halving. So 28 x 28 ends at 7 x 7, 32 x 32 and 128 x 128 at 4 x 4, and 178 x 218 at 6 x 7. The
    generator doubles sizes, and drops the last row or column where the target size is odd. For
    28 x 28 images and width w:

    - generator: dense to 7 x 7 x 2w, ReLU, transposed convolution to 14 x 14 x w, ReLU, transposed
      convolution to 28 x 28 x C, tanh;
    - discriminator: convolution to 14 x 14 x w, leaky ReLU, convolution to 7 x 7 x 2w, leaky ReLU,
      dense to one logit.

    All convolutions are 4 x 4, stride 2, SAME. Weights are initialised as in flax (LeCun normal),
    biases with zero. Without BatchNorm the discriminator treats samples independently, so one
    backward pass can serve both players.

    With BatchNorm (``normalization="batch"``) every layer is normalised before its activation,
    except the generator's last and the discriminator's first and last, as in the paper. A
    normalised layer has no bias. Each minibatch is normalised by its own mean and variance. The
    running statistics (momentum 0.9) are the network's state, for evaluation mode. A discriminator
    with one convolution (images that are halved once) has nothing to normalise.

    Args:
      image_shape: ``(H, W, C)``; H and W at least 8.
      latent_dim: length of the generator's input, at least 1.
      width: channels of the finest hidden level, ``w``, at least 1.
      conv: form of the convolutions, ``"auto"``, ``"gemm"`` or ``"native"``; see
        `onesided_jax.networks.choose_form`.
      normalization: ``"none"`` or ``"batch"``.
      classes: number of classes for a conditional GAN, at least 2. The generator then takes
        ``(latents, labels int[B])`` and joins a learnt class vector, as long as a latent, to each
        latent. The discriminator takes ``(samples, labels)`` and adds the inner product of its last
        features and a learnt class vector (projection, Miyato and Koyama 2018).

    Returns:
      ``(generator, discriminator)``. The generator maps latents ``f32[B, latent_dim]`` to images
      ``f32[B, H, W, C]`` in (-1, 1); the discriminator maps images to logits ``f32[B]``. Without
      BatchNorm both have the empty state ``()``. The discriminator's last layer is
      ``params["head"]``; negating it flips the sign of the logits.

    Raises:
      ValueError: no halving is possible, or an argument is out of range or unknown.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> generator, discriminator = dcgan((16, 16, 1), latent_dim=8, width=4)
      >>> def logits(key):
      ...     images, _ = generator.apply(*generator.init(key), jnp.ones((2, 8)))
      ...     return discriminator.apply(*discriminator.init(key), images)[0]
      >>> jax.eval_shape(logits, jax.random.key(0)).shape
      (2,)

    References:
      Radford, Metz, Chintala, Unsupervised representation learning with deep convolutional
      generative adversarial networks, ICLR 2016, arXiv:1511.06434.
      Ioffe, Szegedy, Batch normalization, ICML 2015, arXiv:1502.03167.
    """
    check_classes(classes)
    sizes = _pyramid(image_shape)
    channels = image_shape[2]
    check_integers(latent_dim=latent_dim, width=width)
    choose_form(conv)
    check_choice("normalization", normalization, get_args(Normalization))
    normalize = normalization == "batch"
    generator = functools.partial(_Generator, sizes, channels, latent_dim, classes)
    discriminator = functools.partial(_Discriminator, sizes, channels, classes)
    return (
        from_nnx(lambda rngs: generator(width, conv, normalize, rngs)),
        from_nnx(lambda rngs: discriminator(width, conv, normalize, rngs)),
    )


def _batch_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    # Flax's fast variance, E x^2 - (E x)^2, loses digits if a channel's mean is large.
    return nnx.BatchNorm(features, momentum=MOMENTUM, use_fast_variance=False, rngs=rngs)


def _pyramid(image_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Sizes (H, W) of the levels, finest first."""
    if len(image_shape) != 3:
        raise ValueError(
            f"image_shape must be (height, width, channels), as (28, 28, 1); got {image_shape!r}"
        )
    height, width, channels = image_shape
    check_integers(height=height, width=width, channels=channels)
    sizes = [(height, width)]
    while min(sizes[-1]) > COARSEST:
        sizes.append((-(-sizes[-1][0] // STRIDE), -(-sizes[-1][1] // STRIDE)))
    if len(sizes) == 1:
        nearest = tuple(max(n, COARSEST + 1) for n in (height, width))
        raise ValueError(
            f"dcgan halves height and width at least once, so both must be at least "
            f"{COARSEST + 1}; got image_shape={tuple(image_shape)!r}, "
            f"nearest valid: {(*nearest, channels)!r}"
        )
    return sizes


class _Generator(nnx.Module):
    def __init__(
        self,
        sizes: list[tuple[int, int]],
        channels: int,
        latent_dim: int,
        classes: int | None,
        width: int,
        form: str,
        normalize: bool,
        rngs: nnx.Rngs,
    ):
        levels, coarsest = len(sizes) - 1, sizes[-1]
        widths = [width * 2**level for level in reversed(range(levels))]
        self.coarsest = (*coarsest, widths[0])
        self.sizes = tuple(reversed(sizes[:-1]))
        # Before a normalisation a bias has a gradient of pure rounding error. Optimizers that
        # divide by the gradient's size would turn it into a random walk. In the authors' code the
        # dense layer has no bias either.
        self.dense = nnx.Linear(
            latent_dim if classes is None else 2 * latent_dim,
            coarsest[0] * coarsest[1] * widths[0],
            use_bias=not normalize,
            rngs=rngs,
        )
        self.convs = nnx.List(
            ConvTranspose(
                a, b, KERNEL, STRIDE, use_bias=i == levels or not normalize, form=form, rngs=rngs
            )
            for i, (a, b) in enumerate(zip(widths, [*widths[1:], channels]), start=1)
        )
        self.norms = nnx.List(_batch_norm(w, rngs) for w in widths) if normalize else None
        self.classes = embedding(classes, latent_dim, 1.0, rngs)

    def __call__(self, latents: jax.Array, *labels: jax.Array) -> jax.Array:
        x = self.dense(join_class(latents, labels, self.classes)).reshape(-1, *self.coarsest)
        for i, layer in enumerate(self.convs):
            x = x if self.norms is None else self.norms[i](x)
            x = layer(jax.nn.relu(x))
            if x.shape[1:3] != self.sizes[i]:
                x = x[:, : self.sizes[i][0], : self.sizes[i][1]]
        return jax.numpy.tanh(x)


class _Discriminator(nnx.Module):
    def __init__(
        self,
        sizes: list[tuple[int, int]],
        channels: int,
        classes: int | None,
        width: int,
        form: str,
        normalize: bool,
        rngs: nnx.Rngs,
    ):
        levels, coarsest = len(sizes) - 1, sizes[-1]
        widths = [width * 2**level for level in range(levels)]
        self.convs = nnx.List(
            Conv(a, b, KERNEL, STRIDE, use_bias=i == 0 or not normalize, form=form, rngs=rngs)
            for i, (a, b) in enumerate(zip([channels, *widths[:-1]], widths))
        )
        self.norms = nnx.List(_batch_norm(w, rngs) for w in widths[1:]) if normalize else None
        self.head = Head(coarsest[0] * coarsest[1] * widths[-1], classes, rngs)

    def __call__(self, images: jax.Array, *labels: jax.Array) -> jax.Array:
        x = images
        for i, layer in enumerate(self.convs):
            x = layer(x)
            if self.norms is not None and i > 0:
                x = self.norms[i - 1](x)
            x = jax.nn.leaky_relu(x, LEAK)
        return self.head(x.reshape(x.shape[0], -1), *labels)
