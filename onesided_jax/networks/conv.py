"""Convolutions as matrix products, which are fast on a CPU under ``vmap`` and ``scan``.

XLA:CPU turns a vmapped convolution into a grouped one, and runs convolutions inside a loop on one
thread. This is ten times slower than a matrix product. So here a convolution is *patches, then one
product*, and a transposed convolution is *one product, then overlap-add*. Strides are removed
first: ``s x s`` blocks of pixels move into the channels (space-to-depth). Then a ``k x k``
convolution of stride ``s`` is one of stride 1 over ``ceil(k / s)^2`` contiguous slices.

On TPU and GPU the native convolution moves fewer bytes, so `choose_form` decides by the platform
that a program is compiled for. Parameters and results are the same in both forms. Forward mode,
reverse mode and any nesting of the two work.
"""

from __future__ import annotations

import functools
import itertools
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["Form", "Padding", "choose_form", "conv", "conv_transpose"]

Form: TypeAlias = Literal["auto", "gemm", "native"]
"""How a convolution is computed; see `choose_form`."""

Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]
"""``"SAME"``, ``"VALID"``, or the rows and columns to add, as in flax."""

_Pair: TypeAlias = tuple[int, int]
_Pads: TypeAlias = tuple[_Pair, _Pair]


def choose_form(form: str = "auto") -> Callable[..., jax.Array]:
    """Chooses how convolutions are computed.

    ``"auto"`` is resolved at lowering, for the target platform. So a program compiled on a CPU for
    a TPU, or exported for several platforms, contains the right form.

    Args:
      form: ``"gemm"``, ``"native"``, or ``"auto"``: ``"gemm"`` on a CPU and ``"native"`` elsewhere
        (on a TPU v5e it moves 3.9 times fewer bytes).

    Returns:
      ``compute(gemm, native, *operands)``, which applies one of the two functions to the operands.

    Raises:
      ValueError: for any other form.

    Example:
      >>> compute = choose_form("native")
      >>> compute(lambda x: x + x, lambda x: 2.5 * x, 1.0)
      2.5
      >>> choose_form("fft")
      Traceback (most recent call last):
      ...
      ValueError: a convolution's form is one of 'auto', 'gemm', 'native'; got 'fft'
    """
    forms: dict[str, Callable[..., jax.Array]] = {
        "auto": lambda gemm, native, *xs: lax.platform_dependent(*xs, cpu=gemm, default=native),
        "gemm": lambda gemm, native, *xs: gemm(*xs),
        "native": lambda gemm, native, *xs: native(*xs),
    }
    if form in forms:
        return forms[form]
    expected = ", ".join(map(repr, forms))
    raise ValueError(f"a convolution's form is one of {expected}; got {form!r}")


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    *,
    form: str = "auto",
    precision: Any = None,
) -> jax.Array:
    """Convolves images: `jax.lax.conv_general_dilated` with NHWC images and an HWIO kernel.

    Args:
      x: images, float ``[B, H, W, C]``.
      kernel: float ``[kh, kw, C, F]``, of the dtype of ``x``.
      strides: one positive integer, or one for each of H and W.
      padding: ``"SAME"``, ``"VALID"``, or the number of zeros to add, ``((top, bottom), (left,
        right))``. One integer replaces a pair or all four; negative integers crop.
      form: see `choose_form`.
      precision: as in `jax.lax.dot_general`.

    Returns:
      ``[B, H', W', F]``.

    Raises:
      ValueError: ``x`` and ``kernel`` do not fit each other, or an option is malformed.

    Example:
      >>> import jax.numpy as jnp
      >>> conv(jnp.ones((8, 28, 28, 3)), jnp.ones((4, 4, 3, 16)), strides=2).shape
      (8, 14, 14, 16)
    """
    size, window, stride = _geometry(x, kernel, strides)
    pads = _pads(padding, lambda name: lax.padtype_to_pads(size, window, stride, name))
    out = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(size, pads, window, stride)]

    def gemm(x, kernel):
        needed = [s * (n - 1 + math.ceil(k / s)) for n, k, s in zip(out, window, stride)]
        x = _pad(x, [(p[0], n - m - p[0]) for p, n, m in zip(pads, needed, size)])
        x = _space_to_depth(x, stride)
        patches, weights = [], []
        for (i, j), (rows, columns), part in _taps(window, stride):
            piece = x[:, i : i + out[0], j : j + out[1], :rows, :columns]
            patches.append(piece.reshape(*piece.shape[:3], -1))
            weights.append(kernel[part].reshape(-1, kernel.shape[3]))
        # With the weight as [F, K] its gradient is the product (F x N)(N x K), three times faster
        # on XLA:CPU than (K x N)(N x F). The barrier keeps XLA from transposing it back.
        weight = lax.optimization_barrier(jnp.concatenate(weights).T)
        contract = (((3,), (1,)), ((), ()))
        return lax.dot_general(jnp.concatenate(patches, -1), weight, contract, precision=precision)

    def native(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, stride, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision
        )

    empty = _any_empty(*out, *x.shape, *kernel.shape)
    return choose_form("native" if empty else form)(gemm, native, x, kernel)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    *,
    form: str = "auto",
    precision: Any = None,
) -> jax.Array:
    """Upsamples images by a transposed convolution: `jax.lax.conv_transpose`, NHWC and HWIO.

    The native form also multiplies the zeros that it inserts between pixels (``s^2`` times the
    work). The GEMM form computes each pixel's contribution to ``kh x kw`` outputs, then adds up.

    Args:
      x: images, float ``[B, H, W, C]``.
      kernel: float ``[kh, kw, C, F]``, of the dtype of ``x``; not flipped, as in JAX and flax.
      strides: one positive integer, or one for each of H and W.
      padding: ``"SAME"`` (the output is ``s`` times the input), ``"VALID"``, or the zeros to add as
        in `conv`, after those between pixels are inserted.
      form: see `choose_form`.
      precision: as in `jax.lax.dot_general`.

    Returns:
      ``[B, H', W', F]``.

    Raises:
      ValueError: ``x`` and ``kernel`` do not fit each other, or an option is malformed.

    Example:
      >>> import jax.numpy as jnp
      >>> conv_transpose(jnp.ones((8, 7, 7, 64)), jnp.ones((4, 4, 64, 32)), strides=2).shape
      (8, 14, 14, 32)
    """
    size, window, stride = _geometry(x, kernel, strides)
    pads = _pads(padding, lambda name: [_transpose_pads(*ks, name) for ks in zip(window, stride)])
    out = [s * (n - 1) + 2 + sum(p) - k for n, p, k, s in zip(size, pads, window, stride)]

    def gemm(x, kernel):
        # In blocks of s x s outputs, full[B, h, w, sh, sw, F]: pixel i contributes to the outputs
        # s i + u, u = 0..k-1, through the flipped kernel. Takes the form that stores less.
        small = x.shape[3] < math.prod(stride) * kernel.shape[3]
        if small and all(k % s == 0 for k, s in zip(window, stride)):
            blocks = _blocks_by_patches(x, kernel, stride, precision)
        else:
            blocks = _blocks_by_overlap_add(x, kernel, stride, precision)
        full = _depth_to_space(blocks)
        first = [p[0] - (k - 1) for p, k in zip(pads, window)]
        return _pad(full, [(f, o - n - f) for f, o, n in zip(first, out, full.shape[1:3])])

    def native(x, kernel):
        return lax.conv_transpose(x, kernel, stride, pads, precision=precision)

    empty = _any_empty(*out, *x.shape, *kernel.shape)
    return choose_form("native" if empty else form)(gemm, native, x, kernel)


def _blocks_by_patches(x: jax.Array, kernel: jax.Array, stride: _Pair, precision: Any) -> jax.Array:
    """All s x s outputs of a block from the contributing pixels: a convolution of stride 1."""
    (kh, kw, c, f), (sh, sw) = kernel.shape, stride
    kernel = kernel.reshape(kh // sh, sh, kw // sw, sw, c, f)[:, ::-1, :, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(kh // sh, kw // sw, c, sh * sw * f)
    pads = [(k // s - 1, k // s - 1) for k, s in zip((kh, kw), stride)]
    blocks = conv(x, kernel, 1, pads, form="gemm", precision=precision)
    return blocks.reshape(*blocks.shape[:3], sh, sw, f)


def _blocks_by_overlap_add(
    x: jax.Array, kernel: jax.Array, stride: _Pair, precision: Any
) -> jax.Array:
    """Each pixel's contributions to the blocks, added where they overlap."""
    window = (kernel.shape[0], kernel.shape[1])
    kernel = kernel[::-1, ::-1].swapaxes(2, 3)  # [kh, kw, F, C]
    taps = list(_taps(window, stride))
    weights = [kernel[part].reshape(-1, kernel.shape[3]) for _, _, part in taps]
    contract = (((3,), (1,)), ((), ()))
    products = lax.dot_general(x, jnp.concatenate(weights), contract, precision=precision)
    ends = list(itertools.accumulate(len(w) for w in weights))[:-1]
    blocks = []
    for (shift, extent, _), piece in zip(taps, jnp.split(products, ends, axis=-1)):
        margins = [(i, math.ceil(k / s) - 1 - i) for i, k, s in zip(shift, window, stride)]
        margins += [(0, s - n) for s, n in zip(stride, extent)]
        blocks.append(_pad(piece.reshape(*piece.shape[:3], *extent, -1), margins))
    return functools.reduce(operator.add, blocks)


def _geometry(
    x: jax.Array, kernel: jax.Array, strides: int | Sequence[int]
) -> tuple[_Pair, _Pair, _Pair]:
    """Sizes (rows, columns) of image, kernel and stride; ``ValueError`` if they do not fit."""
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2] or x.dtype != kernel.dtype:
        raise ValueError(
            "expected images [B, H, W, C] and a kernel [kh, kw, C, F] of one dtype; "
            f"got {x.dtype}{list(x.shape)} and {kernel.dtype}{list(kernel.shape)}"
        )
    try:
        stride = _both(strides)
    except (TypeError, ValueError):
        stride = (0, 0)
    if min(stride) < 1:
        raise ValueError(f"strides must be one or two positive integers; got {strides!r}")
    return (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1]), stride


def _any_empty(*sizes: Any) -> bool:
    """Whether a size is known to be below 1; symbolic sizes of `jax.export` cannot be compared."""
    return any(isinstance(size, numbers.Integral) and size < 1 for size in sizes)


def _pads(padding: Padding, named: Callable[[str], Sequence[_Pair]]) -> _Pads:
    """Padding as ((top, bottom), (left, right)); ``named`` resolves SAME and VALID."""
    try:
        if isinstance(padding, str):
            rows, columns = named({"SAME": "SAME", "VALID": "VALID"}[padding])
            return rows, columns  # may be symbolic
        one = isinstance(padding, (int, numbers.Integral))
        rows, columns = (padding, padding) if one else padding
        return _both(rows), _both(columns)
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "padding must be 'SAME', 'VALID', an integer, or one integer or (low, high) for each "
            f"of rows and columns; got {padding!r}"
        ) from None


def _both(pair: Any) -> _Pair:
    """A pair of integers from one or two."""
    low, high = (pair, pair) if isinstance(pair, numbers.Integral) else pair
    return operator.index(low), operator.index(high)


def _transpose_pads(k: int, s: int, name: str) -> _Pair:
    """Padding of `jax.lax.conv_transpose`: SAME gives s n outputs, VALID s n + max(k - s, 0)."""
    total = k + s - 2 + (max(k - s, 0) if name == "VALID" else 0)
    low = k - 1 if name == "VALID" or s > k - 1 else math.ceil(total / 2)
    return low, total - low


def _taps(window: _Pair, stride: _Pair) -> Iterator[tuple[_Pair, _Pair, tuple[slice, slice]]]:
    """Cuts a kernel into stride-sized blocks: (position, extent, slices).

    If the stride does not divide the kernel, the last block along an axis is smaller, which saves
    products with zeros.
    """
    (kh, kw), (sh, sw) = window, stride
    for i in range(0, kh, sh):
        for j in range(0, kw, sw):
            part = (slice(i, i + sh), slice(j, j + sw))
            yield (i // sh, j // sw), (min(sh, kh - i), min(sw, kw - j)), part


def _pad(x: jax.Array, margins: Sequence[_Pair]) -> jax.Array:
    """Pads the axes after the first with zeros; negative margins crop."""
    rest = [(0, 0)] * (x.ndim - 1 - len(margins))
    config = [(low, high, 0) for low, high in [(0, 0), *margins, *rest]]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _space_to_depth(x: jax.Array, stride: _Pair) -> jax.Array:
    """[B, sh h, sw w, C] -> [B, h, w, sh, sw, C]."""
    (b, h, w, c), (sh, sw) = x.shape, stride
    return x.reshape(b, h // sh, sh, w // sw, sw, c).swapaxes(2, 3)


def _depth_to_space(x: jax.Array) -> jax.Array:
    """[B, h, w, sh, sw, F] -> [B, sh h, sw w, F]."""
    b, h, w, sh, sw, f = x.shape
    return x.swapaxes(2, 3).reshape(b, h * sh, w * sw, f)
