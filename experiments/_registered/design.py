"""The design of the registered experiment: every number that a result depends on.

`experiments/registered.md` says the same in words. After registration nothing here may change.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import onesided_jax as osj
from onesided_jax import datasets, games, networks

RATE = 1e-3  # of both players, alternating Adam; the pilot chose it
ADAM: dict[str, Any] = {"b1": 0.5, "b2": 0.999}
PAIR_RATE = 1e-3  # of both players, claim 2's pair
AMSGRAD: dict[str, Any] = {"b2": 0.99, "eps": 1e-3}
NORMALIZATION = "none"
DATA = ("mnist", "fashion_mnist")
PILOT_SEED = 900
FIRST_SEED = 1000
GATES = {  # largest Fréchet distance, least class entropy in units of log C
    "mnist": (0.10, 0.95),
    "fashion_mnist": (0.12, 0.95),  # the pilot set it
    "bars": (0.10, 0.95),
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is.

    ``looks`` maps a number of seeds to the confidence of the intervals at that look.
    """

    steps: int
    checkpoints: int = 60
    width: int = 32
    batch_size: int = 64
    latent_dim: int = 64
    rows: int = 12  # checkpoints in a cross matrix, and of twin B
    samples: int = 256  # per entry of a cross matrix
    microbatches: int = 32
    quality_samples: int = 10_000
    quality_seeds: int = 3
    looks: tuple[tuple[int, float], ...] = ((8, 0.995), (16, 0.952))
    pair_look: tuple[int, float] = (8, 0.95)
    few_seeds: int = 4  # of the control and the secondary arm

    @property
    def every(self) -> int:
        return self.steps // self.checkpoints

    @property
    def twin_steps(self) -> int:
        """A quarter of a run, a multiple of ``rows``."""
        return self.rows * max(1, self.steps // 4 // self.rows)


SCALES = {
    "small": Scale(
        steps=40, checkpoints=20, width=2, batch_size=4, latent_dim=4, rows=3, samples=8,
        microbatches=4, quality_samples=100, quality_seeds=2, looks=((2, 0.995), (3, 0.952)),
        pair_look=(2, 0.95), few_seeds=2,
    ),
    "cpu": Scale(steps=6_000),
}  # fmt: skip


class Arm(NamedTuple):
    """What is trained: an optimizer at fixed rates.

    Attributes:
      claim: what ``--claim`` calls it.
      make: ``scale -> make_optimizer``.
      rate: of both players.
      method: the optimizer's name and options, if the MVI's sum is streamed along the run.
    """

    claim: str
    make: Callable[[Scale], Callable[..., Any]]
    rate: float = RATE
    method: tuple[str, dict[str, Any]] | None = None


def _frozen(primal_learning_rate: Any, dual_learning_rate: Any, *, at: int) -> Any:
    """Alternating Adam whose discriminator stops after ``at`` steps."""

    def rate(count: Any) -> Any:
        return jnp.where(count < at, dual_learning_rate, 0.0)

    return osj.alternating_adam(primal_learning_rate, rate, **ADAM)


def _fixed(factory: Callable[..., Any], options: dict[str, Any]) -> Callable[[Scale], Any]:
    return lambda scale: functools.partial(factory, **options)


ARMS = {
    "alternating_adam": Arm("1", _fixed(osj.alternating_adam, ADAM)),
    "frozen": Arm("control", lambda scale: functools.partial(_frozen, at=scale.steps // 2)),
    "adam": Arm("secondary", _fixed(osj.adam, ADAM)),
    "amsgrad_xeg": Arm("2", _fixed(osj.amsgrad_xeg, AMSGRAD), PAIR_RATE, ("amsgrad_xeg", AMSGRAD)),
    "amsgrad": Arm(
        "2",
        _fixed(osj.amsgrad, {"b1": 0.0, **AMSGRAD}),
        PAIR_RATE,
        ("amsgrad", {"b1": 0.0, **AMSGRAD}),
    ),
}


COUNTS = {  # seeds of each thing to run, in the order of the experiment
    "pilot": lambda scale: 2,
    "1": lambda scale: scale.looks[-1][0],
    "3": lambda scale: scale.looks[-1][0],
    "2": lambda scale: scale.pair_look[0],
    "control": lambda scale: scale.few_seeds,
    "secondary": lambda scale: scale.few_seeds,
}


def seeds_of(claim: str, scale: Scale) -> tuple[int, int]:
    """The first seed and one past the last, unless a command gives a part of them."""
    first = PILOT_SEED if claim == "pilot" else FIRST_SEED
    return first, first + COUNTS[claim](scale)


def load_images(data: str, data_dir: str | None) -> datasets.Dataset:
    """The training images with their labels; ``"bars"`` are 400 made here, for the small scale."""
    if data != "bars":
        return datasets.load(data, data_dir=data_dir)
    rng, labels = np.random.default_rng(0), np.arange(400) % 10
    images = rng.integers(0, 40, (400, 14, 14), np.uint8)
    images[np.arange(400), labels + 2] += 200  # of class c: a bright row
    return datasets.from_array(images, "bars", labels)


def make_game(images: datasets.Dataset, scale: Scale) -> osj.Game:
    """The DCGAN of claim 1, non-saturating."""
    height, columns, channels = images.shape
    generator, discriminator = networks.dcgan(
        (height, columns, channels), scale.latent_dim, scale.width, normalization=NORMALIZATION
    )
    return games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=images,
        batch_size=scale.batch_size,
        latent_dim=scale.latent_dim,
    )


def criteria(data: str, scale: Scale, seeds: int, *, pair: bool = False) -> osj.Criteria:
    """Boundaries, and the confidence of the look that so many seeds allow."""
    looks = (scale.pair_look,) if pair else scale.looks
    reached = [look for look in looks if seeds >= look[0]] or [looks[0]]
    gate = GATES[data]
    return osj.Criteria(
        min_seeds=reached[-1][0],
        confidence=reached[-1][1],
        gate_frechet=gate[0],
        gate_class_entropy=gate[1],
        microbatches=scale.microbatches,
        mvi_rows=scale.rows,
        mvi_samples=scale.samples,
        quality_samples=scale.quality_samples,
        quality_seeds=scale.quality_seeds,
    )


def windows(scale: Scale) -> tuple[list[int], list[int]]:
    """The checkpoints of both windows by number; at 60 they are 3 to 6 and 48 to 60."""
    numbers = range(1, scale.checkpoints + 1)
    count = scale.checkpoints
    early = [i for i in numbers if 5 * count <= 100 * i <= 10 * count]
    return early, [i for i in numbers if 80 * count <= 100 * i]
