"""The design of the experiments on GANs: scales, arms, recipes. design.md says why."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onesided_jax as osj
from onesided_jax.runs import Criteria

HERE = Path(__file__).parent
RESULTS = HERE / "results"


class Scale(NamedTuple):
    """How large an experiment is.

    Attributes:
      data: the data sets of the core.
      seeds: of the core; the ablations take the first three.
      game: options of the GAN that are the same in all arms.
      steps: training steps.
      checkpoints: how many, at the same steps in every arm.
      criteria: thresholds are the defaults; sample sizes follow the scale.
      arms: labels of the core's arms, all if empty.
      factors: of the ablations, all if empty.
      mvi_arms: whose cross matrices are measured.
    """

    data: tuple[str, ...]
    seeds: tuple[int, ...]
    game: Mapping[str, Any]
    steps: int
    checkpoints: int
    criteria: Criteria
    arms: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    mvi_arms: tuple[str, ...] = ("adam", "amsgrad_eg", "amsgrad_xeg")


_GAN = {"network": "dcgan", "loss": "non_saturating", "latent_dim": 64, "batch_size": 64}
_TINY = {**_GAN, "network": "mlp", "latent_dim": 4, "batch_size": 8, "width": 8}

SCALES = {
    "small": Scale(
        data=("mnist5k",),
        seeds=(0, 1),
        game=_TINY,
        steps=42,
        checkpoints=21,
        criteria=Criteria(
            microbatches=3, mvi_samples=8, mvi_rows=3, random_targets=2, fresh_duals=2,
            quality_samples=100, quality_seeds=2, slope_bins=3,
        ),
        arms=("adam", "amsgrad_xeg", "amsgrad_eg_drd"),
        factors=("loss",),
        mvi_arms=("adam",),
    ),
    "paper": Scale(
        data=("mnist5k", "fashion_mnist"),
        seeds=(0, 1, 2, 3, 4),
        game={**_GAN, "width": 32},
        steps=2_000,
        checkpoints=40,
        criteria=Criteria(mvi_samples=128),
    ),
    "large": Scale(
        data=("mnist", "fashion_mnist", "cifar10"),
        seeds=tuple(range(10)),
        game={**_GAN, "width": 64},
        steps=40_000,
        checkpoints=80,
        criteria=Criteria(),
    ),
}  # fmt: skip

PILOT_SEED = 100  # never used again; see pilot.py
REFERENCE = RESULTS / "pilot" / "reference.json"  # Fréchet distances of the pilot


def arm(
    name: str,
    primal: float | Sequence[float],
    dual: float | Sequence[float],
    label: str = "",
    /,
    **axes: float | Sequence[float],
) -> osj.OptimizerSpec:
    """An arm; several values of a hyperparameter are several runs a seed."""
    values = {"primal_learning_rate": primal, "dual_learning_rate": dual, **axes}
    columns = {k: tuple(v) if isinstance(v, Sequence) else (v,) for k, v in values.items()}
    return osj.OptimizerSpec(name, label=label or name, axes=columns)


_ADAM = {"b1": 0.5, "b2": 0.999}
_AMSGRAD = {"b2": 0.99, "eps": 1e-3}

BASELINE = arm("adam", 2e-4, 2e-4, **_ADAM)
ARMS = (
    BASELINE,
    arm("amsgrad_xeg", 1e-3, 1e-3, **_AMSGRAD),
    arm("amsgrad_eg", 5e-4, 5e-4, **_AMSGRAD),
    arm("amsgrad", 5e-4, 5e-4, b1=0.0, **_AMSGRAD),
    arm("adam", 2e-4, 2e-4, "adam_b1_0", b1=0.0, b2=0.999),
    arm("adam", 2e-4, 8e-4, "adam_ttur", **_ADAM),
    arm("amsgrad_eg_drd", 5e-4, 2e-3, power=(0.25, 0.5, 1.0), **_AMSGRAD),
)
"""The core's arms; experiments/design.md says why."""

FROZEN, FAST, AVERAGED = "adam_dual_frozen", "amsgrad_1e-3", "adam_ema"
CONTROLS = (FROZEN, FAST, AVERAGED)
"""Of these no verdict is asked; gradient_norms.py says how the first and the last are trained."""

OTHERS = (
    arm("alternating_adam", 2e-4, 2e-4, **_ADAM),
    arm("extra_adam", 2e-4, 2e-4, **_ADAM),
    arm("optimistic_adam", 2e-4, 2e-4, **_ADAM),
    arm("oadagrad", 1e-2, 1e-2),
    arm("sgda", 1e-1, 1e-2),
)
"""Optimizers around the core; rates of the last two are the pilot's."""


def core(data: str, scale: Scale) -> osj.Recipe:
    """The core on one data set."""
    arms = tuple(a for a in ARMS if not scale.arms or a.label in scale.arms)
    return recipe(f"core-{data}", scale, {**scale.game, "dataset": data}, arms, scale.seeds)


def at_other_rates(data: str, scale: Scale) -> osj.Recipe:
    """Plain AMSGrad at the rates of amsgrad_xeg: the two differ in extragradient alone."""
    fast = arm("amsgrad", 1e-3, 1e-3, FAST, b1=0.0, **_AMSGRAD)
    return recipe(f"fast-{data}", scale, {**scale.game, "dataset": data}, [fast], scale.seeds)


def recipe(
    name: str,
    scale: Scale,
    game: Mapping[str, Any],
    arms: Sequence[osj.OptimizerSpec],
    seeds: Sequence[int],
) -> osj.Recipe:
    every = scale.steps // scale.checkpoints
    return osj.Recipe(
        name=name,
        game=osj.GameSpec("gan", game),
        optimizers=tuple(arms),
        seeds=tuple(seeds),
        steps=every * scale.checkpoints,
        checkpoint_every=every,
        record_every=every,
        criteria=_with_reference(scale.criteria, str(game["dataset"])),
    )


def alone(recipe: osj.Recipe, label: str) -> osj.Recipe:
    """One arm of a recipe, a recipe of its own: nothing else has to be trained for it."""
    (found,) = (spec for spec in recipe.optimizers if spec.label == label)
    return dataclasses.replace(recipe, name=f"{recipe.name}-{label}", optimizers=(found,))


def _with_reference(criteria: Criteria, data: str) -> Criteria:
    """The gate's reference distance on a data set, where a pilot has fixed one."""
    known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    return dataclasses.replace(criteria, gate_frechet_reference=known.get(data))


def varied(criteria: Criteria, thresholds: Sequence[str]) -> Iterator[tuple[str, float, Criteria]]:
    """Criteria with one threshold half as large, or half as large again, where that is possible."""
    for threshold, factor in itertools.product(thresholds, (0.5, 1.5)):
        value = factor * getattr(criteria, threshold)
        try:
            changed = dataclasses.replace(criteria, **{threshold: value})
        except ValueError:
            continue  # these criteria contradict each other, or ask for more than there can be
        yield threshold, value, changed
