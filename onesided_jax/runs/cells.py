"""Runs of a sweep (seeds zipped with hyperparameters), and the cells of a recipe."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onesided_jax.optimizers import OPTIMIZERS
from onesided_jax.runs._values import check_name
from onesided_jax.runs.recipe import Recipe
from onesided_jax.runs.specs import label_of

__all__ = ["Cell", "Runs", "cells", "grid"]


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a sweep: run ``i`` has ``seeds[i]`` and ``{name: values[i]}``.

    `grid` makes the product of seeds and values. For another design, such as random search, pass
    the columns yourself. Runs with equal seed and hyperparameters are copies, and an analysis
    counts them once.

    Attributes:
      seeds: integers in ``[0, 2**32)``; kept as ``uint32[R]``.
      hyperparameters: name to ``R`` finite numbers; kept as ``float64[R]``.

    Raises:
      ValueError: for seeds that are not integers in the range, a column of another length, or a
        number that is not finite.

    Example:
      >>> from onesided_jax import Runs
      >>> len(Runs(seeds=[0, 1], hyperparameters={"learning_rate": [0.1, 0.3]}))
      2
    """

    seeds: Any
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        seeds = _check_seeds(np.asarray(self.seeds))
        for name in self.hyperparameters:
            check_name("hyperparameter", name)
        columns = {k: np.asarray(values, float) for k, values in self.hyperparameters.items()}
        for name, values in columns.items():
            if values.shape != seeds.shape:
                raise ValueError(
                    f"hyperparameters[{name!r}] has shape {list(values.shape)}, expected "
                    f"[{len(seeds)}] like seeds; grid(seeds=..., {name}=...) makes both"
                )
            if not np.isfinite(values).all():
                raise ValueError(
                    f"hyperparameters[{name!r}]: expected finite numbers, got {values}"
                )
        object.__setattr__(self, "seeds", seeds)
        object.__setattr__(self, "hyperparameters", columns)

    def __len__(self) -> int:
        return len(self.seeds)

    def take(self, rows: Any) -> Runs:
        """Selects runs by indices or by a boolean mask."""
        return Runs(self.seeds[rows], {k: v[rows] for k, v in self.hyperparameters.items()})

    def to_json(self) -> dict[str, Any]:
        """Seeds and hyperparameters as lists of numbers, as a manifest stores them."""
        columns = {name: values.tolist() for name, values in self.hyperparameters.items()}
        return {"seeds": self.seeds.tolist(), "hyperparameters": columns}


class Cell(NamedTuple):
    """The unit of training: one optimizer, many runs, one compiled program.

    Attributes:
      label: name of the cell in folders, tables and figures.
      make_optimizer: ``make_optimizer(**hyperparameters) -> optax transformation``.
      runs: seeds and hyperparameters of the runs.
    """

    label: str
    make_optimizer: Callable[..., Any]
    runs: Runs


def grid(*, seeds: Sequence[int] | int, **axes: Sequence[float] | float) -> Runs:
    """Every combination of seeds and hyperparameter values, seeds varying fastest.

    Args:
      seeds: the seeds, or their number ``n`` for seeds ``0`` to ``n - 1``.
      **axes: values of each hyperparameter; a single number is kept fixed.

    Returns:
      The :class:`Runs`.

    Raises:
      ValueError: for an empty axis, or seeds that are not integers.

    Example:
      >>> from onesided_jax import grid
      >>> runs = grid(seeds=2, learning_rate=(0.1, 0.2))
      >>> runs.seeds.tolist(), runs.hyperparameters["learning_rate"].tolist()
      ([0, 1, 0, 1], [0.1, 0.1, 0.2, 0.2])
    """
    given: Any = seeds
    seed_values = np.arange(given) if np.ndim(given) == 0 else np.asarray(given)
    if seed_values.size and not np.issubdtype(seed_values.dtype, np.integer):
        raise ValueError(f"seeds={seeds!r}: expected integers, or the number of seeds")
    columns = {name: np.atleast_1d(np.asarray(values, float)) for name, values in axes.items()}
    for name, values in [("seeds", seed_values), *columns.items()]:
        if np.size(values) == 0:
            raise ValueError(f"{name}: expected at least one value, got none")
    rows = list(itertools.product(*columns.values(), seed_values))
    flat = {name: np.array([row[i] for row in rows], float) for i, name in enumerate(columns)}
    return Runs(np.array([row[-1] for row in rows], np.int64), flat)


def cells(recipe: Recipe) -> list[Cell]:
    """The recipe's cells, in order."""
    return [
        Cell(
            label_of(spec),
            functools.partial(OPTIMIZERS[spec.name], **spec.options),
            grid(seeds=recipe.seeds, **spec.axes),
        )
        for spec in recipe.optimizers
    ]


def _check_seeds(seeds: np.ndarray) -> np.ndarray:
    if seeds.ndim == 0:
        raise ValueError(
            f"seeds={seeds}: expected int[R], one seed per run, such as [0]; "
            "grid(seeds=NUMBER, NAME=VALUES) makes all combinations"
        )
    if seeds.ndim != 1 or seeds.size == 0 or not np.issubdtype(seeds.dtype, np.integer):
        raise ValueError(
            f"seeds: expected int[R] with R >= 1, got {seeds.dtype}{list(seeds.shape)}"
        )
    if seeds.min() < 0 or seeds.max() >= 2**32:
        raise ValueError("seeds: expected integers in [0, 2**32)")
    return seeds.astype(np.uint32)
