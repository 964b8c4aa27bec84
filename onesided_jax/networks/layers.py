"""Flax nnx layers whose convolutions run as matrix products where that is faster.

Parameters, initialisers, options and results are those of `flax.nnx.Conv` and
`flax.nnx.ConvTranspose`, so checkpoints are interchangeable.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from onesided_jax.networks.conv import choose_form, conv, conv_transpose

__all__ = ["Conv", "ConvTranspose"]


def _conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    *,
    form: str,
    **options: Any,
) -> jax.Array:
    """`conv` for plain 2-d convolutions, `jax.lax.conv_general_dilated` for all others."""
    plain = {
        "lhs_dilation": (1, 1),
        "rhs_dilation": (1, 1),
        "feature_group_count": 1,
        "out_sharding": None,
    }
    extras = [k for k, v in options.items() if k in plain and v != plain[k]]
    if lhs.ndim != 4 or extras or "preferred_element_type" in options or _is_other(padding):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    return conv(lhs, rhs, window_strides, padding, form=form, precision=options.get("precision"))


def _is_other(padding: Any) -> bool:
    """Whether ``padding`` is a name that `conv` does not know."""
    return isinstance(padding, str) and padding not in ("SAME", "VALID")


# One function object per form, because nnx compares static fields of modules with ==.
_HOOKS = {
    form: functools.partial(_conv_general_dilated, form=form) for form in ("auto", "gemm", "native")
}


def _kernel_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Flax's default, LeCun normal, drawn as a matrix [kh kw C, F].

    Bits equal those of the 4-d draw, but XLA:CPU compiles it in 0.7 s instead of 2.5 s.
    """
    matrix = (math.prod(shape[:-1]), shape[-1])
    return jax.nn.initializers.lecun_normal()(key, matrix, dtype).reshape(shape)


class Conv(nnx.Conv):
    """`flax.nnx.Conv` with a choice of form.

    1-d, 3-d, dilated, grouped and explicitly sharded convolutions and ``"SAME_LOWER"`` padding are
    always computed natively. All other options work in both forms.

    Args:
      in_features: channels of the input, ``C``.
      out_features: channels of the output, ``F``.
      kernel_size: ``(kh, kw)``.
      strides: one positive integer, or one for each axis.
      form: see `onesided_jax.networks.choose_form`.
      rngs: where the initialisers take their keys.
      **options: any other option of `flax.nnx.Conv`.

    Returns:
      A module that maps ``[..., H, W, C]`` to ``[..., H', W', F]``.

    Raises:
      ValueError: ``form`` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> layer = Conv(3, 16, (4, 4), strides=2, rngs=nnx.Rngs(0))
      >>> nnx.jit(layer)(jnp.ones((8, 28, 28, 3))).shape
      (8, 14, 14, 16)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        form: str = "auto",
        rngs: nnx.Rngs,
        **options: Any,
    ):
        choose_form(form)
        options["conv_general_dilated"] = _HOOKS[form]
        options.setdefault("kernel_init", _kernel_init)
        super().__init__(in_features, out_features, kernel_size, strides, rngs=rngs, **options)


class ConvTranspose(nnx.ConvTranspose):
    """`flax.nnx.ConvTranspose` with a choice of form.

    1-d, 3-d, dilated, masked and circular convolutions and flipped kernels are always computed
    natively. All other options work in both forms.

    Args:
      in_features: channels of the input, ``C``.
      out_features: channels of the output, ``F``.
      kernel_size: ``(kh, kw)``.
      strides: one positive integer, or one for each axis.
      form: see `onesided_jax.networks.choose_form`.
      rngs: where the initialisers take their keys.
      **options: any other option of `flax.nnx.ConvTranspose`.

    Returns:
      A module that maps ``[..., H, W, C]`` to ``[..., H', W', F]``.

    Raises:
      ValueError: ``form`` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> layer = ConvTranspose(64, 32, (4, 4), strides=2, rngs=nnx.Rngs(0))
      >>> nnx.jit(layer)(jnp.ones((8, 7, 7, 64))).shape
      (8, 14, 14, 32)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        *,
        form: str = "auto",
        rngs: nnx.Rngs,
        **options: Any,
    ):
        choose_form(form)
        self.form = form
        options.setdefault("kernel_init", _kernel_init)
        super().__init__(in_features, out_features, kernel_size, strides, rngs=rngs, **options)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map ``[..., H, W, C]`` to ``[..., H', W', F]``."""
        extras = (
            len(self.kernel_size) != 2
            or self.kernel_dilation not in (None, 1, (1, 1))
            or self.mask is not None
            or self.transpose_kernel
            or self.preferred_element_type is not None
            or _is_other(self.padding)
        )
        if extras:
            return super().__call__(inputs)
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)
        y = conv_transpose(
            x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:]),
            kernel,
            1 if self.strides is None else self.strides,
            self.padding,
            form=self.form,
            precision=self.precision,
        )
        y = y if bias is None else y + bias.reshape(1, 1, 1, -1)
        return y.reshape(*x.shape[:-3], *y.shape[1:])
