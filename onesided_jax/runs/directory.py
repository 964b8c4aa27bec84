"""The run directory: a manifest, and the checkpoints of every cell."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform as host
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from onesided_jax.runs._words import write_json_atomically
from onesided_jax.runs.checkpoints import CheckpointStore, DamagedCheckpointError
from onesided_jax.runs.recipe import Recipe

__all__ = ["Run", "create_or_open", "latest_valid", "open_run", "read_metrics", "record_width"]

FORMAT = 1
_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory, opened.

    Attributes:
      path: the folder.
      manifest: its ``manifest.json``: ``plan`` (steps, cadence, and per cell the seeds and
        hyperparameters), ``recipe`` (``None`` for a sweep of a game built in Python), ``widths``,
        ``versions``, ``platform``, ``command``, ``created``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @property
    def recipe(self) -> Recipe | None:
        """The recipe, or ``None`` for a sweep of a game built in Python."""
        content = self.manifest["recipe"]
        return None if content is None else Recipe.from_dict(content)

    @property
    def cells(self) -> list[str]:
        """Labels of the cells, in the recipe's order."""
        return list(self.manifest["plan"]["cells"])

    def seeds(self, cell: str) -> np.ndarray:
        """``int64[R]``, the seeds of the cell's runs."""
        return np.asarray(self.manifest["plan"]["cells"][cell]["seeds"], np.int64)

    def hyperparameters(self, cell: str) -> dict[str, np.ndarray]:
        """Name to ``float64[R]``, the hyperparameters of the cell's runs."""
        stored = self.manifest["plan"]["cells"][cell]["hyperparameters"]
        return {name: np.asarray(values, float) for name, values in stored.items()}

    def store(self, cell: str) -> CheckpointStore:
        """The cell's checkpoints."""
        return CheckpointStore(self.path / "cells" / cell / "checkpoints")

    def finished(self) -> bool:
        """Whether every cell has its last checkpoint."""
        last = self.manifest["plan"]["steps"]
        return all(last in self.store(cell).steps() for cell in self.cells)


def open_run(path: str | os.PathLike[str]) -> Run:
    """Opens a run directory for reading.

    Args:
      path: a folder that a sweep wrote.

    Returns:
      The run.

    Raises:
      ValueError: if the folder holds no run, a damaged manifest, or one of a newer format.

    Example:
      >>> from onesided_jax import open_run
      >>> open_run("no/such/folder")
      Traceback (most recent call last):
      ...
      ValueError: 'no/such/folder' holds no run: expected a folder with manifest.json, ...
    """
    path = Path(path)
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{str(path)!r} holds no run: expected a folder with {_MANIFEST}, "
            "as written by `onesided sweep ... --out FOLDER`"
        ) from None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path / _MANIFEST)!r} is damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise ValueError(
            f"{str(path / _MANIFEST)!r} has format {found!r}; this version reads {FORMAT}"
        )
    missing = {"plan", "recipe", "widths"} - set(manifest)
    if missing:
        raise ValueError(f"{str(path / _MANIFEST)!r} is damaged: {sorted(missing)} missing")
    return Run(path, manifest)


def create_or_open(
    path: str | os.PathLike[str], *, plan: Mapping[str, Any], recipe: Recipe | None
) -> Run:
    """Creates a run directory, or opens the one that holds this very run.

    Raises:
      ValueError: if the folder holds anything else; it is left as it was.
    """
    path = Path(path)
    plan = json.loads(json.dumps(plan))
    content = None if recipe is None else json.loads(recipe.to_json())
    if (path / _MANIFEST).exists():
        run = open_run(path)
        if run.manifest["plan"] != plan or run.manifest["recipe"] != content:
            raise ValueError(
                f"{str(path)!r} holds another run ({_difference(run.manifest, plan, content)}): "
                "choose another output folder, or `onesided resume` that one"
            )
        return run
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{str(path)!r} exists and holds no run: choose another output folder")
    path.mkdir(parents=True, exist_ok=True)
    write_json_atomically(
        path / _MANIFEST,
        {
            "format": FORMAT,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": _versions(),
            "platform": {
                "backend": jax.default_backend(),
                "device": jax.devices()[0].device_kind,
                "devices": jax.device_count(),
                "machine": host.machine(),
                "system": host.system(),
            },
            "recipe": content,
            "plan": plan,
            "widths": {},
        },
    )
    return open_run(path)


def record_width(run: Run, cell: str, width: int) -> Run:
    """Records the vmapped width of a cell, on which its bits depend, before its first step."""
    manifest = {**run.manifest, "widths": {**run.manifest["widths"], cell: width}}
    write_json_atomically(run.path / _MANIFEST, manifest)
    return Run(run.path, manifest)


def latest_valid(store: CheckpointStore) -> tuple[int, dict[str, Any], list[str]] | None:
    """The newest undamaged checkpoint: ``(step, arrays, what was passed over)``."""
    passed_over: list[str] = []
    for step in reversed(store.steps()):
        try:
            return step, store.read(step), passed_over
        except DamagedCheckpointError as error:
            passed_over.append(str(error))
    return None


def read_metrics(
    store: CheckpointStore, last: int, every: int, shape: tuple[int, int]
) -> list[dict[str, np.ndarray]]:
    """Metrics of every chunk up to step ``last``, which must be whole, each ``float[R, records]``.

    Those of a damaged or missing checkpoint are NaN.
    """
    segments: dict[int, dict[str, np.ndarray]] = {}
    for step in range(every, last + 1, every):
        try:
            segments[step] = store.read(step)["metrics"]
        except DamagedCheckpointError:
            continue
    missing = {name: np.full(shape, np.nan) for name in segments.get(last, {})}
    return [segments.get(step, missing) for step in range(every, last + 1, every)]


def _difference(manifest: Mapping[str, Any], plan: Mapping[str, Any], recipe: Any) -> str:
    """Names the first field in which two runs differ."""
    theirs = {**manifest["plan"], **(manifest["recipe"] or {})}
    ours = {**plan, **(recipe or {})}
    names = [n for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
    if not names:
        return "it was made without a recipe" if manifest["recipe"] is None else "with a recipe"
    shown = [f"{n}={theirs.get(n)!r}" for n in names[:1]]
    return f"with {shown[0]}" if len(shown[0]) < 80 else f"with another {names[0]!r}"


def _versions() -> dict[str, str]:
    names = ("onesided-jax", "jax", "jaxlib", "optax", "flax", "orbax-checkpoint", "numpy")
    return {"python": host.python_version()} | {n: importlib.metadata.version(n) for n in names}
