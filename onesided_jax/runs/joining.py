"""Joins finished runs: more seeds, settings or optimizers for a run that is finished."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax.errors import short
from onesided_jax.runs.cells import Cell, Runs, cells
from onesided_jax.runs.data_file import placeless
from onesided_jax.runs.differences import differences
from onesided_jax.runs.directory import Run, open_run, writing
from onesided_jax.runs.packing import DamagedCheckpointError
from onesided_jax.runs.recipe import Recipe
from onesided_jax.runs.records import record
from onesided_jax.runs.specs import OptimizerSpec, label_of

__all__ = ["join"]

_OWN = ("name", "description", "seeds", "optimizers")  # fields in which joined recipes may differ


def join(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    on_damage: Callable[[str], None] = lambda message: None,
) -> Run:
    """Writes the runs of several finished run directories into a new one.

    This is how a finished run gets more seeds, settings or optimizers: train these into a folder of
    their own, and join the folders. The new directory is one run: it can be analysed, reported,
    sampled and trained further. The others are only read.

    The directories may differ in seeds, in values of hyperparameters and in optimizers. A run that
    occurs twice is taken once. If the joining is interrupted, repeat it to continue.

    Args:
      runs: two or more run directories, all finished.
      out: the new run directory.
      on_damage: called with one sentence for each checkpoint that is left out because it is
        damaged; the last one of each run must be whole.

    Returns:
      The new run.

    Raises:
      ValueError: if a run is not finished, if the runs differ in anything else, or if a seed lacks
        a setting that another one has. Nothing is written.

    Example:
      >>> import dataclasses, tempfile
      >>> from onesided_jax import run
      >>> from onesided_jax.runs import RECIPES, join
      >>> demo = RECIPES["demo-carousel"]
      >>> short = {"steps": 20, "checkpoint_every": 10, "record_every": 10}
      >>> few = dataclasses.replace(demo, optimizers=demo.optimizers[:1], seeds=(0, 1), **short)
      >>> more = dataclasses.replace(few, seeds=(2,))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     a, b = run(few, folder + "/a"), run(more, folder + "/b")
      ...     join([a.path, b.path], folder + "/ab").recipe.seeds
      (0, 1, 2)
    """
    opened = [open_run(path) for path in runs]
    if len(opened) < 2:
        raise ValueError(f"runs={[str(path) for path in runs]}: expected two or more to join")
    _check(opened)
    parts = {label: _Part.of(label, opened) for label in _labels(opened)}
    planned = {label: part.runs.to_json() for label, part in parts.items()}
    plan = {**opened[0].manifest["plan"], "cells": planned}
    recipe = _recipe(opened)
    for cell in [] if recipe is None else cells(recipe):
        _check_complete(cell, parts[cell.label].runs)
    with writing(Path(out).absolute(), plan=plan, recipe=recipe) as joined:
        manifests = [run.manifest for run in reversed(opened)]
        widths = {k: width for m in manifests for k, width in m["widths"].items()}
        shape = {k: m[k] for m in manifests for k in ("sample_shape",) if k in m}
        joined = record(joined, widths=widths, joined=[_origin(run) for run in opened], **shape)
        for label, part in parts.items():
            part.copy(joined, label, on_damage)
        return joined


class _Part(NamedTuple):
    """One cell of the new directory.

    Attributes:
      holders: the runs that have it.
      order: for each row of the new cell, its place in the rows of all holders one after another.
      runs: the rows.
    """

    holders: list[Run]
    order: np.ndarray
    runs: Runs

    @classmethod
    def of(cls, label: str, runs: Sequence[Run]) -> _Part:
        holders = [run for run in runs if label in run.cells]
        columns = [{**run.hyperparameters(label), "": run.seeds(label)} for run in holders]
        names = list(columns[0])
        for run, other in zip(holders, columns, strict=True):
            if list(other) != names:
                raise ValueError(
                    f"{label}: {str(run.path)!r} has values of {list(other)[:-1]}, and "
                    f"{str(holders[0].path)!r} of {names[:-1]}: expected the same hyperparameters"
                )
        joined = {name: np.concatenate([c[name] for c in columns]) for name in names}
        rows = np.stack([_ranks(values) for values in joined.values()], axis=1)
        # In the order of `grid`: seeds vary fastest. A run that occurs twice is taken once.
        order = np.unique(rows, axis=0, return_index=True)[1]
        return cls(holders, order, Runs(joined.pop(""), joined).take(order))

    def copy(self, joined: Run, label: str, on_damage: Callable[[str], None]) -> None:
        """Writes the checkpoints that all holders have."""
        stores, store = [run.store(label) for run in self.holders], joined.store(label)
        for step in sorted(set.intersection(*(set(s.steps()) for s in stores))):
            if store.holds(step):
                continue
            try:
                arrays = [s.read(step) for s in stores]
            except DamagedCheckpointError as error:
                if step == joined.manifest["plan"]["steps"]:
                    raise
                on_damage(f"{error}; left out")
                continue
            try:
                rows = jax.tree.map(lambda *parts: np.concatenate(parts)[self.order], *arrays)
            except ValueError as error:
                folders = ", ".join(str(s.path / str(step)) for s in stores)
                raise ValueError(f"{folders}: these hold different arrays: {error}") from None
            seconds = sum(s.info(step)["seconds"] for s in stores)
            store.write(step, rows, {"seconds": seconds, "runs": len(self.order)})


def _ranks(values: np.ndarray) -> np.ndarray:
    """For each value, the place of its first occurrence among the distinct values."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values.tolist()))}
    return np.array([places[value] for value in values.tolist()])


def _labels(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(label for run in runs for label in run.cells))


def _check(runs: Sequence[Run]) -> None:
    """Raises ``ValueError`` unless the runs are finished, and comparable."""
    for run in runs:
        if not run.finished():
            raise ValueError(
                f"{str(run.path)!r} is not finished: complete it first, with "
                f"`onesided resume {run.path}` or the same call of `sweep`"
            )
    first, *others = runs
    expected = _common(first)
    for other in others:
        if found := differences(expected, _common(other)):
            raise ValueError(
                f"{str(other.path)!r} cannot be joined to {str(first.path)!r}: {found}; expected "
                "runs that differ only in seeds, in values of hyperparameters and in optimizers"
            )


def _common(run: Run) -> dict[str, Any]:
    """What joined runs must have in common."""
    plan = {name: value for name, value in run.manifest["plan"].items() if name != "cells"}
    recipe = None if run.recipe is None else dataclasses.asdict(run.recipe)
    fields: Mapping[str, Any] = placeless(recipe) or {}
    return {
        **plan,
        "made by": "a recipe" if fields else "a call of sweep",
        **{name: value for name, value in fields.items() if name not in _OWN},
        "SHA-256 of the data": run.manifest.get("data_sha256"),
    }


def _recipe(runs: Sequence[Run]) -> Recipe | None:
    """The recipe of all runs together, or ``None`` if they have none."""
    recipes = [recipe for run in runs if (recipe := run.recipe) is not None]
    if not recipes:
        return None
    specs: dict[str, OptimizerSpec] = {}
    for spec in (spec for recipe in recipes for spec in recipe.optimizers):
        label = label_of(spec)
        before = specs.setdefault(label, spec)
        if (spec.name, dict(spec.options)) != (before.name, dict(before.options)):
            raise ValueError(
                f"{label}: {spec.name} with {dict(spec.options)} in one run, {before.name} with "
                f"{dict(before.options)} in another: expected the same optimizer, or other labels"
            )
        axes = {k: tuple(dict.fromkeys((*before.axes[k], *v))) for k, v in spec.axes.items()}
        specs[label] = dataclasses.replace(before, axes=axes)
    seeds = tuple(dict.fromkeys(seed for recipe in recipes for seed in recipe.seeds))
    return dataclasses.replace(recipes[0], seeds=seeds, optimizers=tuple(specs.values()))


def _check_complete(cell: Cell, runs: Runs) -> None:
    """Raises ``ValueError`` unless the runs are every combination, as in a recipe."""
    found = set(_rows(runs))
    missing = [row for row in _rows(cell.runs) if row not in found]
    if missing:
        names = [*cell.runs.hyperparameters, "seed"]
        row = ", ".join(f"{k}={v:g}" for k, v in zip(names, missing[0], strict=True))
        raise ValueError(
            f"{cell.label}: {len(missing)} of {len(cell.runs)} combinations are in none of the "
            f"runs, such as {short(row)}: train these too"
        )


def _rows(runs: Runs) -> list[tuple[float, ...]]:
    """Every run as its hyperparameters and its seed."""
    columns = (*runs.hyperparameters.values(), runs.seeds)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _origin(run: Run) -> dict[str, Any]:
    """Where joined runs come from."""
    kept = ("versions", "platform", "settings", "created", "command", "sessions")
    return {"path": str(run.path), **{k: run.manifest[k] for k in kept if k in run.manifest}}
