"""The same runs computed in other circumstances, compared bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

import onesided_jax as osj
from onesided_jax.runs import Recipe, Run

from .divergence import rows
from .figures import Figures
from .workload import differences, is_same_tree

__all__ = ["compare_all", "compare_on", "stopped_at_every_checkpoint"]

WIDTH = 2


def stopped_at_every_checkpoint(recipe: Recipe, out: Path, **options) -> tuple[Run, int]:
    """A sweep that is stopped before every chunk and begun anew; and how often it was."""
    stops = 0
    while True:
        allowed = iter([False, False])  # one cell more, one chunk more
        run = osj.run(recipe, out, stop=lambda allowed=allowed: next(allowed, True), **options)
        if run.finished():
            return run, stops
        stops += 1


def compare_all(folder: Path, recipe: Recipe) -> list[Figures]:
    """The recipe twice, stopped, with other seeds and in another order, on all devices."""
    first = osj.run(recipe, folder / "first", width=WIDTH, devices=jax.devices()[:1])
    cells, chunks = len(first.cells), recipe.steps // recipe.checkpoint_every + 1
    found = []

    def same(name: str, run: Run, times: int = cells * chunks) -> None:
        changed = len(differences(first, run))
        found.append(Figures(name, times, times - changed, changed, note="checkpoints compared"))

    same("the same recipe again", osj.run(recipe, folder / "again", width=WIDTH))
    for count in range(2, len(jax.devices()) + 1):
        run = osj.run(recipe, folder / f"on-{count}", width=WIDTH, devices=jax.devices()[:count])
        same(f"{count} host devices instead of 1", run)
    run, stops = stopped_at_every_checkpoint(recipe, folder / "stopped", width=WIDTH)
    same(f"stopped and resumed {stops} times", run)

    def some(name: str, seeds: tuple[int, ...]) -> None:
        other = osj.run(dataclasses.replace(recipe, seeds=seeds), folder / name, width=WIDTH)
        changed = times = 0
        for cell in first.cells:
            where = {key: i for i, key in enumerate(_keys(first, cell))}
            here = [i for i, key in enumerate(_keys(other, cell)) if key in where]
            there = [where[_keys(other, cell)[i]] for i in here]
            for step in first.store(cell).steps():
                times += 1
                changed += not is_same_tree(
                    rows(other.store(cell).read(step), np.array(here)),
                    rows(first.store(cell).read(step), np.array(there)),
                )
        found.append(Figures(name, times, times - changed, changed, note="checkpoints compared"))

    some("other slots: seeds in another order", recipe.seeds[::-1])
    some("other neighbours: other seeds beside it", (recipe.seeds[0], 77, 78))
    return found


def _keys(run: Run, cell: str) -> list[tuple]:
    """What a run is: its seed and hyperparameters."""
    columns = run.hyperparameters(cell)
    return list(zip(run.seeds(cell).tolist(), *(v.tolist() for v in columns.values())))


def compare_on(devices: int, folder: str, content: str, to: str) -> int:
    """A victim: :func:`compare_all` in a process with so many host devices; rows as JSON."""
    osj.configure_cpu(devices)
    found = compare_all(Path(folder), Recipe.from_json(content))
    Path(to).write_text(json.dumps([figures._asdict() for figures in found]))
    return 0
