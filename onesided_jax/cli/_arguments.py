"""Makes a recipe from the arguments of the command line; pure functions."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from onesided_jax.cli._counts import whole_number
from onesided_jax.errors import check_count, nearest
from onesided_jax.runs import (
    RECIPES,
    Recipe,
    build_game,
    hyperparameters_of,
    numerics,
    shape_of_data,
)
from onesided_jax.runs.recipe import MAX_RUNS

__all__ = ["changed", "find_recipe", "parameters", "run_count"]


def find_recipe(name: str) -> Recipe:
    """A built-in recipe, or the one in a file."""
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".json") or Path(name).is_file():
        return Recipe.load(name)
    raise ValueError(
        f"recipe={name!r}: expected a .json file or one of {sorted(RECIPES)}"
        f"{nearest(name, RECIPES)}"
    )


def changed(
    recipe: Recipe,
    steps: int | None,
    checkpoint_every: int | None,
    seeds: str | None,
    settings: tuple[str, ...],
) -> Recipe:
    """The recipe with the command line's changes; cadences follow a changed number of steps."""
    new_steps = recipe.steps if steps is None else steps
    if checkpoint_every is None and steps is not None and steps >= 1:
        check_count("steps", steps)
        checkpoint_every = _divisor(steps, steps * recipe.checkpoint_every // recipe.steps)
    every = recipe.checkpoint_every if checkpoint_every is None else checkpoint_every
    optimizers = recipe.optimizers
    given = [_parse_setting(setting) for setting in settings]
    for setting, (name, values) in zip(settings, given, strict=True):
        if [other for other, _ in given].count(name) > 1:
            raise ValueError(
                f"--set {setting}: {name!r} is given twice; expected one list of values"
            )
        if not any(name in hyperparameters_of(spec.name)[0] for spec in optimizers):
            known = sorted({n for spec in optimizers for n in hyperparameters_of(spec.name)[0]})
            raise ValueError(
                f"--set {setting}: {name!r} is not a float hyperparameter of this recipe's "
                f"optimizers, expected one of {known}{nearest(name, known)}"
            )
        optimizers = tuple(
            dataclasses.replace(spec, axes={**spec.axes, name: values})
            if name in hyperparameters_of(spec.name)[0]
            else spec
            for spec in optimizers
        )
    return dataclasses.replace(
        recipe,
        steps=new_steps,
        checkpoint_every=every,
        record_every=math.gcd(recipe.record_every, every) if every >= 1 else recipe.record_every,
        seeds=recipe.seeds if seeds is None else _parse_seeds(seeds),
        optimizers=optimizers,
    )


def _divisor(whole: int, most: int) -> int:
    """The largest divisor of ``whole`` that is at most ``most``; at least 1."""
    small = [d for d in range(1, math.isqrt(whole) + 1) if whole % d == 0]
    return max(d for pair in ((d, whole // d) for d in small) for d in pair if d <= max(most, 1))


def _parse_setting(setting: str) -> tuple[str, tuple[float, ...]]:
    name, equals, text = setting.partition("=")
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not equals or not values:
        raise ValueError(f"--set {setting}: expected NAME=V1,V2 with numbers, e.g. b2=0.9,0.99")
    return name.strip(), values


def _parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds written as their number, or as FIRST:END without END."""
    first, colon, end = text.rpartition(":")
    try:
        begin, stop = whole_number(first) if colon else 0, whole_number(end)
    except ValueError:
        raise ValueError(f"seeds={text}: expected a number, or FIRST:END such as 5:10") from None
    if not 0 <= begin < stop <= 2**32 or stop - begin > MAX_RUNS:
        raise ValueError(f"seeds={text}: expected 1 to {MAX_RUNS:,} seeds, all below 2**32")
    return tuple(range(begin, stop))


def run_count(recipe: Recipe) -> int:
    """The number of runs of a recipe."""
    per_seed = sum(math.prod(len(v) for v in spec.axes.values()) for spec in recipe.optimizers)
    return per_seed * len(recipe.seeds)


def parameters(recipe: Recipe) -> str:
    """One line with the number of parameters of each player; the data are not read."""
    import jax

    from onesided_jax.players import make_key

    try:
        with numerics(recipe):
            shape = shape_of_data(recipe.game)
            game = build_game(recipe.game, recipe.precision, sample_shape=shape)
            players, _ = jax.eval_shape(game.init, make_key(0))
    except (OSError, ImportError, ValueError, TypeError) as error:
        return f"Parameters unknown: {error}"
    counts = (sum(leaf.size for leaf in jax.tree.leaves(player)) for player in players)
    return "Parameters: {:,} of the primal player, {:,} of the dual".format(*counts)
