"""From a recipe to runs: the grid of every optimizer, flattened to the run axis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.runs.recipe import Recipe
from onesided_jax.runs.specs import OptimizerSpec, label_of, optimizer_maker

__all__ = ["Cell", "cells", "grid"]


class Cell(NamedTuple):
    """One compiled program's worth of runs.

    Attributes:
      label: name of the cell.
      spec: its optimizer.
      seeds: ``int[R]``.
      hyperparameters: name to ``float[R]``; run ``i`` is ``(seeds[i], {k: v[i]})``.
      make_optimizer: ``hyperparameters -> optax transformation``.
    """

    label: str
    spec: OptimizerSpec
    seeds: np.ndarray
    hyperparameters: dict[str, np.ndarray]
    make_optimizer: Callable[[Mapping[str, Any]], Any]


def grid(
    *, seeds: Sequence[int] | int, **axes: Sequence[float] | float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Every combination of seeds and hyperparameter values, flattened to the run axis.

    Args:
      seeds: the seeds, or how many (``0, 1, ...``).
      **axes: values of each hyperparameter; a single number is kept fixed.

    Returns:
      ``(seeds int64[R], {name: float64[R]})``, seeds varying fastest; zipped: run ``i`` is
      ``(seeds[i], {k: v[i]})``.

    Raises:
      ValueError: for an empty axis, or seeds that are no integers.

    Example:
      >>> from onesided_jax import grid
      >>> seeds, hyperparameters = grid(seeds=2, learning_rate=(0.1, 0.2))
      >>> seeds.tolist(), hyperparameters["learning_rate"].tolist()
      ([0, 1, 0, 1], [0.1, 0.1, 0.2, 0.2])
    """
    given: Any = seeds
    seed_values = np.arange(given) if np.ndim(given) == 0 else np.asarray(given)
    if seed_values.size and not np.issubdtype(seed_values.dtype, np.integer):
        raise ValueError(f"seeds={seeds!r}: expected integers, or how many")
    columns = {name: np.atleast_1d(np.asarray(values, float)) for name, values in axes.items()}
    for name, values in [("seeds", seed_values), *columns.items()]:
        if np.size(values) == 0:
            raise ValueError(f"{name}: expected at least one value, got none")
    rows = list(itertools.product(*columns.values(), seed_values))
    flat = {name: np.array([row[i] for row in rows], float) for i, name in enumerate(columns)}
    return np.array([row[-1] for row in rows], np.int64), flat


def cells(recipe: Recipe) -> list[Cell]:
    """The recipe's cells, in order; see :class:`Cell`."""
    result = []
    for spec in recipe.optimizers:
        seeds, hyperparameters = grid(seeds=recipe.seeds, **spec.axes)
        result.append(Cell(label_of(spec), spec, seeds, hyperparameters, optimizer_maker(spec)))
    return result
