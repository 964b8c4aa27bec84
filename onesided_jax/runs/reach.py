"""Finds recipes whose verdicts will be undecided, whatever the result of training."""

from __future__ import annotations

from onesided_jax.runs.criteria import in_window
from onesided_jax.runs.recipe import Recipe

__all__ = ["out_of_reach"]


def out_of_reach(recipe: Recipe) -> list[str]:
    """Says before training which verdicts will be undecided, and why.

    Args:
      recipe: the recipe, with the criteria of its verdicts.

    Returns:
      One sentence for too few seeds, and one for each window without a checkpoint.

    Example:
      >>> from onesided_jax.runs import RECIPES, out_of_reach
      >>> out_of_reach(RECIPES["mnist-dcgan"])
      []
      >>> import dataclasses
      >>> print(*out_of_reach(dataclasses.replace(RECIPES["ring"], seeds=(0,))))
      Every verdict will be undecided: 1 seed, 3 needed.
    """
    criteria, whole = recipe.criteria, recipe.steps
    sentences = []
    if (seeds := len(recipe.seeds)) < criteria.min_seeds:
        few = f"{seeds} seed{'s' * (seeds != 1)}, {criteria.min_seeds} needed"
        sentences.append(f"Every verdict will be undecided: {few}.")
    steps = range(0, whole + 1, recipe.checkpoint_every)
    for name in ("early_window", "late_window"):
        begin, end = getattr(criteria, name)
        if not in_window(steps, (begin, end), whole).any():
            sentences.append(
                f"Convergence will be undecided: no checkpoint lies in the {name} "
                f"({begin:.0%} to {end:.0%} of the run). Use a smaller checkpoint_every."
            )
    return sentences
