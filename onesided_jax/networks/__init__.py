"""Neural networks as pure functions: what a GAN game takes for its two players.

A `Network` is ``(init, apply)``. Build the package's own with `dcgan`, `mlp` and `sn_resnet`, or
bring any flax module through `from_nnx` or `from_linen`; `Conv` and `ConvTranspose` are flax's
layers, computed as matrix products where that is faster (ten times, for vmapped training on a CPU).

Example:
  >>> import jax
  >>> from onesided_jax.networks import dcgan
  >>> generator, discriminator = dcgan((28, 28, 1), latent_dim=64, width=32)
  >>> params, state = jax.eval_shape(discriminator.init, jax.random.key(0))
  >>> sum(leaf.size for leaf in jax.tree.leaves(params))
  36513
"""

from onesided_jax.networks.conv import choose_form, conv, conv_transpose
from onesided_jax.networks.dcgan import dcgan
from onesided_jax.networks.layers import Conv, ConvTranspose
from onesided_jax.networks.mlp import mlp
from onesided_jax.networks.network import Network, from_linen, from_nnx
from onesided_jax.networks.sn_resnet import sn_resnet

__all__ = [
    "Conv",
    "ConvTranspose",
    "Network",
    "choose_form",
    "conv",
    "conv_transpose",
    "dcgan",
    "from_linen",
    "from_nnx",
    "mlp",
    "sn_resnet",
]
