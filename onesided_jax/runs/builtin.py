"""The recipes that come with the package."""

from __future__ import annotations

from collections.abc import Sequence

from onesided_jax.runs.criteria import Criteria
from onesided_jax.runs.recipe import Recipe
from onesided_jax.runs.specs import GameSpec, OptimizerSpec

__all__ = ["RECIPES"]


def _arm(
    name: str,
    primal: Sequence[float] | float,
    dual: Sequence[float] | float,
    **axes: float,
) -> OptimizerSpec:
    rates = {"primal_learning_rate": primal, "dual_learning_rate": dual}
    return OptimizerSpec(name, axes={**rates, **axes})


# eps is the theory's delta; on these games gradient entries have this order of magnitude.
_THEORY = {"b2": 0.99, "eps": 0.5}
_RATES = ((0.015, 0.0125, 0.01), (2.0, 0.6, 0.2))
_THEORY_ARMS = (
    _arm("amsgrad", *_RATES, b1=0.0, **_THEORY),
    _arm("amsgrad_eg", *_RATES, **_THEORY),
    _arm("amsgrad_xeg", *_RATES, **_THEORY),
    _arm("amsgrad_eg_drd", *_RATES, power=0.5, **_THEORY),
)
_GAN = {"network": "dcgan", "width": 32, "latent_dim": 64, "batch_size": 64}
_DIGITS = {**_GAN, "dataset": "mnist5k", "loss": "non_saturating"}
_NETWORK = {"b2": 0.99, "eps": 1e-3}
_ADAM = {"b1": 0.5, "b2": 0.999}

_DEMO = (
    ("amsgrad", {"b1": 0.0, **_THEORY}),
    ("amsgrad_xeg", _THEORY),
)
# For the short runs of the demo: fewer samples, an early window with enough of the 20 checkpoints,
# and a gate that a small network can pass. Chosen on seeds 0 to 4, which the demo does not use.
_SHORT = Criteria(
    early_window=(0.05, 0.25),
    microbatches=16,
    mvi_samples=16,
    mvi_rows=5,
    quality_samples=1_000,
    quality_seeds=2,
    gate_frechet=0.33,
    gate_class_entropy=0.8,
)


def _analytic(name: str, game: str, description: str, seeds: int = 6) -> Recipe:
    return Recipe(
        name=name,
        description=description,
        game=GameSpec(game),
        optimizers=_THEORY_ARMS,
        seeds=tuple(range(seeds)),
        steps=30_000,
        checkpoint_every=750,
        record_every=150,
        precision="float64",
    )


_ALL = (
    _analytic(
        "carousel",
        "carousel",
        "O1, a game whose answer is known: the one-sided MVI holds at x* = 0, with equality on a "
        "ring that plain descent cannot leave inwards, and the dual player turns for ever.",
    ),
    _analytic(
        "bilinear",
        "bilinear",
        "G1, f(x, y) = x A y: the two-sided MVI holds with equality, the one-sided MVI fails.",
    ),
    _analytic(
        "moving-target",
        "moving_target",
        "N2, a negative control: no x* satisfies the one-sided MVI, yet dual rate decay lets the "
        "primal gradient fall.",
    ),
    Recipe(
        name="demo-carousel",
        description="The carousel at one slow and one fast dual learning rate: plain descent "
        "circles for ever, extragradient on x comes to rest.",
        game=GameSpec("carousel"),
        optimizers=tuple(_arm(name, 0.0125, (2.0, 0.2), **options) for name, options in _DEMO),
        seeds=tuple(range(6)),
        steps=30_000,
        checkpoint_every=1_500,
        record_every=300,
        precision="float64",
    ),
    Recipe(
        name="demo",
        description="MNIST-5k digits, a narrow DCGAN (width 8, minibatch 32) under Adam, six "
        "seeds. The early window and the gate were chosen on seeds 0 to 4.",
        game=GameSpec("gan", {**_DIGITS, "width": 8, "batch_size": 32}),
        optimizers=(_arm("adam", 5e-4, 5e-4, **_ADAM),),
        seeds=(5, 6, 7, 8, 9, 10),
        steps=1_600,
        checkpoint_every=80,
        record_every=16,
        criteria=_SHORT,
    ),
    Recipe(
        name="mnist-dcgan",
        description="MNIST-5k digits, DCGAN of width 32, non-saturating loss, five seeds per arm.",
        game=GameSpec("gan", _DIGITS),
        optimizers=(
            _arm("adam", 2e-4, 2e-4, **_ADAM),
            _arm("extra_adam", 2e-4, 2e-4, **_ADAM),
            _arm("amsgrad_eg", 5e-4, 5e-4, **_NETWORK),
            _arm("amsgrad_xeg", 1e-3, 1e-3, **_NETWORK),
        ),
        seeds=(0, 1, 2, 3, 4),
        steps=6_000,
        checkpoint_every=150,
        record_every=10,
    ),
    Recipe(
        name="images-64",
        description="A folder of images of your own (--data-dir FOLDER) at 64 x 64, DCGAN of width "
        "64 with BatchNorm, three seeds per optimizer.",
        game=GameSpec(
            "gan",
            {
                **_GAN,
                "dataset": "images",
                "image_size": 64,
                "width": 64,
                "latent_dim": 100,
                "normalization": "batch",
                "loss": "non_saturating",
            },
        ),
        optimizers=(
            _arm("alternating_adam", 2e-4, 2e-4, **_ADAM),
            _arm("extra_adam", 2e-4, 2e-4, **_ADAM),
        ),
        seeds=(0, 1, 2),
        steps=20_000,
        checkpoint_every=500,
        record_every=10,
    ),
    Recipe(
        name="ring",
        description="Eight Gaussians on a ring, MLPs of width 64, non-saturating loss.",
        game=GameSpec(
            "gan",
            {
                "dataset": "ring",
                "network": "mlp",
                "width": 64,
                "latent_dim": 16,
                "batch_size": 128,
                "loss": "non_saturating",
            },
        ),
        optimizers=(
            _arm("adam", (5e-4, 1e-3), (5e-4, 1e-3), **_ADAM),
            _arm("extra_adam", (5e-4, 1e-3), (5e-4, 1e-3), **_ADAM),
            _arm("amsgrad_xeg", (5e-4, 1e-3), (5e-4, 1e-3), **_NETWORK),
        ),
        seeds=(0, 1, 2, 3, 4),
        steps=6_000,
        checkpoint_every=200,
        record_every=10,
        criteria=Criteria(microbatches=16),
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
"""Built-in recipes by name, as ``onesided recipes`` lists them."""
