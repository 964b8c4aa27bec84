"""Neural networks as pure functions, for the two players of a GAN game.

A `Network` is ``(init, apply)``. Build one with `dcgan`, `mlp` or `sn_resnet`, or convert a flax
module with `from_nnx` or `from_linen`. `Conv` and `ConvTranspose` are flax's layers, computed as
matrix products where that is faster (ten times, for vmapped training on a CPU).

Names that need flax are imported on first use, because flax is slow to import.

Example:
  >>> import jax
  >>> from onesided_jax.networks import dcgan
  >>> generator, discriminator = dcgan((28, 28, 1), latent_dim=64, width=32)
  >>> params, state = jax.eval_shape(discriminator.init, jax.random.key(0))
  >>> sum(leaf.size for leaf in jax.tree.leaves(params))
  36513
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onesided_jax.networks._linen import from_linen
from onesided_jax.networks.conv import choose_form, conv, conv_transpose
from onesided_jax.networks.network import Network, from_nnx

if TYPE_CHECKING:
    from onesided_jax.networks._dcgan import dcgan
    from onesided_jax.networks._mlp import mlp
    from onesided_jax.networks._sn_resnet import sn_resnet
    from onesided_jax.networks.layers import Conv, ConvTranspose

_LAZY = {
    "Conv": "layers",
    "ConvTranspose": "layers",
    "dcgan": "_dcgan",
    "mlp": "_mlp",
    "sn_resnet": "_sn_resnet",
}

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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
