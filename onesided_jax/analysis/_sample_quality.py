"""Measures the sample quality of every run of a GAN at its last checkpoint."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from onesided_jax import datasets
from onesided_jax.analysis._classifier import check_labels
from onesided_jax.analysis._modes import Mixture
from onesided_jax.analysis.cell import Tell, counted
from onesided_jax.analysis.estimators import Array
from onesided_jax.analysis.quality import NotFiniteError, quality, quality_reference
from onesided_jax.analysis.source import Source, pick_run
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual, make_key
from onesided_jax.runs import Criteria, Recipe

__all__ = ["find_data", "measure_quality"]

_SAMPLING_SEED = 14213  # of the latents, for every run; training keys come from the runs' seeds
_CHUNK = 500  # samples generated at once
_MIXTURES = {
    "ring": (datasets.ring, datasets.ring_means),
    "grid": (datasets.grid, datasets.grid_means),
}


def find_data(
    game: Game,
    recipe: Recipe | None,
    data: datasets.Dataset | Mixture | None,
    inception: str | os.PathLike[str] | None,
    wanted: bool,
) -> tuple[datasets.Dataset | Mixture | None, str]:
    """Returns the real data to compare with, or None; and why there is no gate, or ``""``.

    Raises:
      ValueError: if ``data`` or ``inception`` is given but cannot be used.
    """
    if not wanted or game.generate is None:
        reason = "the game generates no samples" if wanted else "quality=False"
        for name, value in {"data": data, "inception": inception}.items():
            if value is not None:
                raise ValueError(f"{name} was given, but {reason}; leave it out")
        return None, reason if wanted else "it was switched off"
    of_the_recipe = data is None
    if data is None:
        name = _dataset_name(recipe)
        if recipe is None or name is None:
            return None, "the data are unknown; analyze(..., data=...) takes them"
        if name in _MIXTURES:
            make, means = _MIXTURES[name]
            data = Mixture(means(), inspect.signature(make).parameters["std"].default)
        else:
            data = datasets.load(name, size=recipe.game.options.get("image_size"))
    if isinstance(data, Mixture):
        return data, ""
    fault = _fault_of_labels(data, of_the_recipe)
    if not fault or inception is None:
        return (None if fault else data), fault
    return data._replace(labels=None), fault  # Inception needs no labels


def _fault_of_labels(data: datasets.Dataset, of_the_recipe: bool) -> str:
    """Why no classifier can be trained on the data, or ``""``."""
    if data.labels is None:
        return f"{data.name} has no labels"
    if data.data is None or data.data.dtype != np.uint8:
        return f"{data.name} has no images"
    if of_the_recipe:  # for the user's own data, this raises later
        try:
            check_labels(data.data, data.labels)
        except ValueError as error:
            return f"{data.name}: {error}"
    return ""


def _dataset_name(recipe: Recipe | None) -> str | None:
    if recipe is None or recipe.game.name != "gan":
        return None
    from onesided_jax.runs.build import _build_gan  # for the default data set

    default = inspect.signature(_build_gan).parameters["dataset"].default
    return recipe.game.options.get("dataset", default)


def measure_quality(
    sources: list[Source],
    game: Game,
    data: datasets.Dataset | Mixture,
    inception: str | os.PathLike[str] | None,
    criteria: Criteria,
    tell: Tell,
) -> tuple[list[dict[str, Array]], dict[str, Any]]:
    """Measures the runs of every cell.

    Returns:
      ``(values, about)``. ``values`` has for each cell measure to ``f64[R, K]`` for K evaluation
      seeds; NaN for a run that diverged or has non-finite samples. If a sweep kept a moving average
      of its generators, they are values of the average, and ``raw_MEASURE`` those of the last
      iterate. ``about`` has facts about the real data.

    Raises:
      ValueError: if the samples of the game and the data have different shapes.
    """
    _check_shape(game, data)
    tell("quality: real data", 0, 1)
    reference = quality_reference(data, inception=inception)
    tell("quality: real data", 1, 1)
    draw = _sampler(game, criteria.quality_samples)
    more = reference.label_names(game.classes)
    labels = _labels(game.classes, criteria.quality_samples) if more else None
    measure = functools.partial(quality, reference=reference, labels=labels)
    tables = []
    for source in sources:
        runs = counted(range(len(source.seeds)), f"{source.label}: sample quality", tell)
        found = [_measure_run(source, run, draw, measure, criteria.quality_seeds) for run in runs]
        names = dict.fromkeys(name for values in found for name in values or {})
        lost = np.full(criteria.quality_seeds, np.nan)
        nothing = dict.fromkeys(names or (*reference.measures, *more), lost)
        tables.append({n: np.stack([(one or nothing)[n] for one in found]) for n in nothing})
    about = {
        "samples": criteria.quality_samples,
        "seeds": criteria.quality_seeds,
        "kind": reference.kind,
        **reference.about,
    }
    return tables, {f"quality_{name}": value for name, value in about.items()}


def _check_shape(game: Game, data: datasets.Dataset | Mixture) -> None:
    def generate(key: Any) -> jax.Array:
        return game.generate(*game.init(key), key, 2)  # pyright: ignore[reportOptionalCall]

    found = jax.eval_shape(generate, make_key(0)).shape[1:]
    expected = np.shape(data.means)[1:] if isinstance(data, Mixture) else data.shape
    if found != tuple(expected):
        raise ValueError(
            f"data has samples of shape {list(expected)}, but the game generates {list(found)}"
        )


def _sampler(game: Game, count: int) -> Callable[[Any, Any, Any], np.ndarray]:
    """Returns ``(players, state, key) -> samples[count, ...]``, which generates in chunks."""
    chunks = -(-count // _CHUNK)

    @jax.jit
    def draw(players: Any, state: Any, key: Any) -> jax.Array:
        keys = jax.random.split(key, chunks)
        return jax.lax.map(lambda k: game.generate(players, state, k, min(count, _CHUNK)), keys)  # pyright: ignore[reportOptionalCall]

    def sample(players: Any, state: Any, key: Any) -> np.ndarray:
        found = np.asarray(draw(players, state, key))
        return found.reshape(-1, *found.shape[2:])[:count]

    return sample


def _labels(classes: int | None, count: int) -> np.ndarray | None:
    """The classes of the samples of `_sampler`: ``generate`` cycles through the classes."""
    if classes is None:
        return None
    return np.tile(np.arange(min(count, _CHUNK)) % classes, -(-count // _CHUNK))[:count]


def _measure_run(
    source: Source,
    run: int,
    draw: Callable[[Any, Any, Any], np.ndarray],
    measure: Callable[..., dict[str, Array]],
    seeds: int,
) -> dict[str, Array] | None:
    """Measures one run; None if it diverged or its samples are not finite."""
    if source.diverged_at[run] >= 0:
        return None
    last = source.snapshot(source.steps[-1])
    keys = jax.random.split(make_key(_SAMPLING_SEED), seeds)

    def measure_sets(players: PrimalDual) -> dict[str, Array]:
        picked, state = pick_run(players, run), pick_run(last.state, run)
        return measure(draw(picked, state, key) for key in keys)

    try:
        found = measure_sets(last.averaged())
        if last.ema is not None:
            found |= {f"raw_{name}": values for name, values in measure_sets(last.players).items()}
    except NotFiniteError:
        return None
    return found
