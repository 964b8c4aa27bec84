"""Which verdicts a recipe cannot reach, by its seeds and its cadence alone."""

from __future__ import annotations

import math

from onesided_jax.runs.recipe import Recipe

__all__ = ["out_of_reach"]


def out_of_reach(recipe: Recipe) -> list[str]:
    """What will be inconclusive whatever the training does, one sentence each.

    Args:
      recipe: what is to be trained, with the criteria that it will be judged by.

    Returns:
      A sentence for too few seeds, an empty window, and too few checkpoints for P5.

    Example:
      >>> from onesided_jax.runs import RECIPES, out_of_reach
      >>> out_of_reach(RECIPES["mnist-dcgan"])
      []
      >>> import dataclasses
      >>> print(*out_of_reach(dataclasses.replace(RECIPES["ring"], seeds=(0,))))
      P1 to P3 and P5 will be inconclusive: they ask for 5 seeds (min_seeds), the recipe has 1
    """
    criteria, whole = recipe.criteria, recipe.steps
    steps = range(0, whole + 1, recipe.checkpoint_every)
    found = []
    if len(recipe.seeds) < criteria.min_seeds:
        found.append(
            f"P1 to P3 and P5 will be inconclusive: they ask for {criteria.min_seeds} seeds "
            f"(min_seeds), the recipe has {len(recipe.seeds)}"
        )
    for name in ("early_window", "late_window"):
        begin, end = getattr(criteria, name)
        if not any(begin * whole <= step <= end * whole for step in steps):
            found.append(
                "P1 and P2 will be inconclusive, and P3 not supported: no checkpoint lies in the "
                f"{name} ({begin:g} to {end:g} of the run); expected more checkpoints"
            )
    rows = sum(0 < step <= criteria.held_out_fraction * whole for step in steps)
    if rows < criteria.mvi_rows:
        least = math.ceil(criteria.mvi_rows / criteria.held_out_fraction)
        found.append(
            f"P5 will be inconclusive: it asks for {criteria.mvi_rows} checkpoints (mvi_rows) in "
            f"the first {criteria.held_out_fraction:.0%} of the run, there are {rows}; expected at "
            f"least {least} checkpoints in all"
        )
    return found
