"""Builds the game that a recipe names."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax import datasets, games, networks
from onesided_jax.datasets.folders import image_shape
from onesided_jax.errors import check_choice, nearest
from onesided_jax.games import Game
from onesided_jax.games.losses import find_loss, find_penalty, find_weight, smoothed
from onesided_jax.players import fixed_randomness
from onesided_jax.runs.recipe import PRECISIONS, Recipe
from onesided_jax.runs.specs import GameSpec

__all__ = ["build_game", "numerics", "shape_of_data"]


def build_game(
    spec: GameSpec, precision: str = "float32", *, sample_shape: Sequence[int] | None = None
) -> Game:
    """Builds the game that a recipe names, with its data and networks.

    Args:
      spec: name and options.
      precision: ``"float32"`` or ``"float64"``, the dtype of a GAN's networks and batches.
        ``"float64"`` starts from the same float32 weights and samples. Analytic games follow JAX's
        default dtype.
      sample_shape: shape of a GAN's samples. If given, the data are not read, so the game can only
        generate samples.

    Returns:
      The game.

    Raises:
      ValueError: for an unknown name, option, data set, loss, weight or precision, or for
        ``"float64"`` if JAX's float64 is off.
      FileNotFoundError: for a missing data file.

    Example:
      >>> from onesided_jax import GameSpec
      >>> from onesided_jax.runs import build_game
      >>> build_game(GameSpec("carousel", {"omega": 4.0})).facts.one_sided_mvi
      True
    """
    check_choice("precision", precision, PRECISIONS)
    if jax.dtypes.canonicalize_dtype(precision) != precision:
        raise ValueError(
            f"precision={precision!r} needs JAX's float64: call "
            "jax.config.update('jax_enable_x64', True) first"
        )
    if spec.name == "gan":
        known = list(inspect.signature(_build_gan).parameters)
        for option in spec.options:
            if option not in known:
                raise ValueError(
                    f"{option!r} is not an option of the GAN game: expected one of "
                    f"{known}{nearest(option, known)}"
                )
        options = dict(spec.options)
        if sample_shape is not None:
            dtype = np.uint8 if len(sample_shape) == 3 else np.float32
            nothing = np.zeros((1, *sample_shape), dtype)
            options["dataset"] = datasets.from_array(nothing, labels=np.zeros(1, np.int32))
        game = _build_gan(**options)
        return _in_float64(game) if precision == "float64" else game
    check_choice("game", spec.name, ["gan", *sorted(games.GAMES)])
    return games.make_game(spec.name, **spec.options)


# Normalizations of each network; the first is the default.
_NORMALIZATIONS = {"dcgan": ("none", "batch"), "mlp": ("none",), "sn_resnet": ("spectral",)}


def _build_gan(
    *,
    dataset: str | datasets.Dataset = "mnist5k",
    network: str = "dcgan",
    loss: str = "non_saturating",
    batch_size: int = 64,
    latent_dim: int = 64,
    width: int = 32,
    depth: int = 2,
    gradient_penalty: float | None = None,
    r1: float = 0.0,
    label_smoothing: float = 0.0,
    augment: str | None = None,
    classes: int | None = None,
    image_size: int | Sequence[int] | None = None,
    conv: str = "auto",
    normalization: str | None = None,
) -> Game:
    makers: dict[str, Any] = {
        "dcgan": lambda shape: networks.dcgan(
            shape,
            latent_dim,
            width,
            conv=conv,
            normalization=normalization or "none",
            classes=classes,
        ),
        "mlp": lambda shape: networks.mlp(shape, latent_dim, width, depth, classes=classes),
        "sn_resnet": lambda shape: networks.sn_resnet(
            shape, latent_dim, width, conv=conv, classes=classes
        ),
    }
    if not isinstance(dataset, str | datasets.Dataset):
        raise TypeError(
            f"dataset={dataset!r}: expected a name, e.g. 'mnist5k', or an onesided_jax.Dataset"
        )
    check_choice("network", network, sorted(makers))
    if normalization is not None and normalization not in _NORMALIZATIONS[network]:
        choices = _NORMALIZATIONS[network]
        raise ValueError(
            f"normalization={normalization!r}: network={network!r} takes one of {list(choices)}"
            f"{nearest(normalization, choices)}"
        )
    find_penalty(loss, gradient_penalty)  # before a large data set is read
    find_weight("r1", r1)
    smoothed(find_loss(loss), label_smoothing)
    if augment is not None:
        games.diff_augment(augment)
    data = datasets.load(dataset, size=image_size) if isinstance(dataset, str) else dataset
    generator, discriminator = makers[network](data.shape)
    return games.gan(
        generator=generator,
        discriminator=discriminator,
        loss=loss,
        data=data,
        batch_size=batch_size,
        latent_dim=latent_dim,
        gradient_penalty=gradient_penalty,
        r1=r1,
        label_smoothing=label_smoothing,
        augment=augment,
        classes=classes,
    )


_SHAPES = {
    **dict.fromkeys(("mnist5k", "mnist", "fashion_mnist"), (28, 28, 1)),
    **dict.fromkeys(("ring", "grid"), (2,)),
    "cifar10": (32, 32, 3),
}


def shape_of_data(spec: GameSpec) -> tuple[int, ...] | None:
    """The shape of a GAN's samples, or ``None`` if only the data tell; image folders are RGB.

    Example:
      >>> shape_of_data(GameSpec("gan", {"dataset": "mnist"}))
      (28, 28, 1)
    """
    default = inspect.signature(_build_gan).parameters["dataset"].default
    head = str(spec.options.get("dataset", default)).partition(":")[0]
    if head == "images":
        return (*image_shape(spec.options.get("image_size") or 64), 3)
    return _SHAPES.get(head)


def _in_float64(game: Game) -> Game:
    """Casts players and batches to float64; the rest of the game follows their dtype."""

    def widened(draw):
        return lambda *arguments: jax.tree.map(_as_float64, draw(*arguments))

    return dataclasses.replace(game, init=widened(game.init), sample=widened(game.sample))


def _as_float64(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@contextlib.contextmanager
def numerics(recipe: Recipe | None) -> Iterator[None]:
    """Sets the random generator, and the recipe's precision, for this thread.

    Without a recipe, the caller's precision stays.
    """
    with contextlib.ExitStack() as settings:
        settings.enter_context(fixed_randomness())
        if recipe is not None:
            settings.enter_context(jax.enable_x64(recipe.precision == "float64"))
        yield
