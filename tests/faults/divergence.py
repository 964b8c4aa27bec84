"""Runs that blow up beside runs that do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import onesided_jax as osj
from onesided_jax.runs import Recipe

from .figures import Figures
from .workload import SMALL, is_same_tree

__all__ = ["beside_others", "recipe"]

GOOD, EXPLODING = (0.01, 0.02), 1e10


def recipe(
    rates: tuple[float, ...], *, seeds: int = 2, optimizers: Sequence[str] = ("sgda",)
) -> Recipe:
    """Descent-ascent on the bilinear game: at a huge rate it overflows within ten steps."""
    return Recipe.from_dict(
        {
            "name": "explode",
            "game": {"name": "bilinear", "options": {}},
            "optimizers": [
                {
                    "name": name,
                    "axes": {"primal_learning_rate": list(rates), "dual_learning_rate": [0.05]},
                }
                for name in optimizers
            ],
            "seeds": list(range(seeds)),
            "steps": 80,
            "checkpoint_every": 5,
            "criteria": SMALL,
        }
    )


def beside_others(folder: Path, *, seeds: int, optimizers: Sequence[str] = ("sgda",)) -> Figures:
    """Compares every checkpoint of runs beside exploding ones with the same runs alone."""
    rates = (GOOD[0], EXPLODING, GOOD[1])
    mixed = osj.run(recipe(rates, seeds=seeds, optimizers=optimizers), folder / "mixed", width=2)
    alone = osj.run(recipe(GOOD, seeds=seeds, optimizers=optimizers), folder / "alone", width=2)
    changed = injected = 0
    for cell in mixed.cells:
        good = np.isin(mixed.hyperparameters(cell)["primal_learning_rate"], GOOD)
        last = mixed.store(cell).read(80)
        dated = last["diverged_at"][~good] > 0
        injected += int(dated.sum())
        changed += int((last["diverged_at"][good] != -1).sum())
        for step in mixed.store(cell).steps():
            with_, without = (run.store(cell).read(step) for run in (mixed, alone))
            changed += not is_same_tree(rows(with_, good), without)
    return Figures(
        "a run that turns non-finite beside others",
        injected=injected,
        survived=injected if changed == 0 else 0,
        changed=changed,
        note="bits of its neighbours compared with a sweep without it",
    )


def rows(tree: Any, keep: np.ndarray) -> Any:
    """Some runs of a checkpoint."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[keep], tree)
