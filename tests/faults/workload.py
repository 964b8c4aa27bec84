"""What is trained while faults are injected, and how two run directories are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from onesided_jax.runs import DamagedCheckpointError, Recipe, Run, open_run

RATES = {"primal_learning_rate": [1e-3], "dual_learning_rate": [1e-3, 2e-3]}
ONE = [{"name": "adam", "axes": RATES}]
SMALL = {"microbatches": 3, "mvi_samples": 16, "mvi_rows": 3}


def recipe(*, steps: int = 400, every: int = 20, game: str = "gan", **changes: Any) -> Recipe:
    """A real sweep in small: a GAN of two MLPs on a ring of Gaussians under two optimizers."""
    ring = {"dataset": "ring", "network": "mlp", "width": 16, "latent_dim": 4, "batch_size": 32}
    content = {
        "name": "faults",
        "game": {"name": game, "options": ring if game == "gan" else {}},
        "optimizers": [{"name": name, "axes": RATES} for name in ("adam", "amsgrad_eg")],
        "seeds": [0, 1],
        "steps": steps,
        "checkpoint_every": every,
        "criteria": SMALL,
        **changes,
    }
    return Recipe.from_dict(content)


def recipe_file(folder: Path, recipe: Recipe) -> str:
    """The recipe as a file for the command line."""
    path = folder / f"{recipe.name}.json"
    path.write_text(recipe.to_json())
    return str(path)


def is_same_tree(a: Any, b: Any) -> bool:
    """Whether two trees of arrays have the same structure, types and bits (NaN included)."""
    leaves, other = jax.tree.leaves(a), jax.tree.leaves(b)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(map(np.asarray, leaves), map(np.asarray, other), strict=True)
    )


def differences(expected: Path | Run, found: Path | Run) -> list[str]:
    """Every checkpoint in which two run directories differ, by cell and step; ``[]`` if none."""
    expected, found = (run if isinstance(run, Run) else open_run(run) for run in (expected, found))
    different = []
    for cell in expected.cells:
        ours, theirs = expected.store(cell), found.store(cell)
        for step in sorted({*ours.steps(), *theirs.steps()}):
            try:
                same = is_same_tree(ours.read(step), theirs.read(step))
            except DamagedCheckpointError as error:
                same, step = False, f"{step} ({error})"
            if not same:
                different.append(f"{cell} at {step}")
    return different


def leftovers(path: Path) -> list[str]:
    """Files of a run directory that are no part of a finished, analysed and reported run."""
    known = {"cells", "manifest.json", "figures", "report.html"}
    known |= {"analysis.nc", "verdict.json", "runs.csv", "gradient_norms.csv", "quality.csv"}
    own = [p.name for p in path.glob("*") if p.name not in known]
    return own + [str(p.relative_to(path)) for p in path.glob("cells/*/checkpoints/.*")]


def is_same_analysis(a: Path, b: Path) -> bool:
    """Whether two run directories hold the same analysis; False if either holds none."""
    for name in ("verdict.json", "runs.csv", "gradient_norms.csv"):
        if not (a / name).is_file() or (a / name).read_bytes() != (b / name).read_bytes():
            return False
    with xr.open_dataset(a / "analysis.nc") as ours, xr.open_dataset(b / "analysis.nc") as theirs:
        return ours.identical(theirs)


def is_whole_page(path: Path) -> bool:
    """Whether an HTML page is there from the first to the last byte."""
    text = path.read_text("utf-8")
    return text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")


def read_figures(path: Path) -> dict[str, Any]:
    """What a full run wrote."""
    return json.loads(path.read_text())
