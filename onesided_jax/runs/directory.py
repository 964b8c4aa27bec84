"""The run directory: a manifest, and the checkpoints of every cell."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onesided_jax import processes
from onesided_jax.errors import nearest
from onesided_jax.runs import manifest as manifests
from onesided_jax.runs.checkpoints import CheckpointStore, check_path
from onesided_jax.runs.data_file import changed_since, data_sha256, place_data, placeless
from onesided_jax.runs.differences import difference
from onesided_jax.runs.files import DISK_ERRORS, errno_of, write_error
from onesided_jax.runs.lock import lock
from onesided_jax.runs.packing import DamagedCheckpointError
from onesided_jax.runs.recipe import Recipe

__all__ = [
    "Run",
    "create_or_open",
    "latest_valid",
    "open_run",
    "read_metrics",
    "replacing",
    "writing",
]

_LOCK = "lock"
_UNBORN = re.compile(r"lock|\.manifest\..*json\..*")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory, opened.

    Attributes:
      path: the folder.
      manifest: content of ``manifest.json``: ``plan`` (steps, cadence, and each cell's seeds and
        hyperparameters), ``recipe`` (``None`` for a sweep of a game built in Python), ``widths``,
        ``versions``, ``platform``, ``command``, ``created``, ``data_sha256`` of the user's data,
        and ``sessions`` under other versions.
      data: new location of the recipe's data, if they have moved.
    """

    path: Path
    manifest: Mapping[str, Any]
    data: Path | None = None

    @property
    def recipe(self) -> Recipe | None:
        """The recipe, or ``None`` for a sweep of a game built in Python."""
        content = self.manifest["recipe"]
        try:
            recipe = None if content is None else Recipe.from_dict(content)
        except ValueError as error:
            versions = self.manifest.get("versions", {})
            raise ValueError(
                f"{str(self.path)!r}: {error}; the recipe in its manifest needs onesided-jax "
                f"{versions.get('onesided-jax')}, which wrote it"
            ) from None
        return recipe if recipe is None or self.data is None else place_data(recipe, self.data)

    @property
    def cells(self) -> list[str]:
        """Labels of the cells, in the recipe's order."""
        return list(self.manifest["plan"]["cells"])

    def seeds(self, cell: str) -> np.ndarray:
        """``int64[R]``, the seeds of the cell's runs."""
        return np.asarray(self._planned(cell)["seeds"], np.int64)

    def hyperparameters(self, cell: str) -> dict[str, np.ndarray]:
        """Name to ``float64[R]``, the hyperparameters of the cell's runs."""
        stored = self._planned(cell)["hyperparameters"]
        return {name: np.asarray(values, float) for name, values in stored.items()}

    def store(self, cell: str) -> CheckpointStore:
        """The cell's checkpoints.

        Raises:
          ValueError: for a cell that the run does not have; so do `seeds` and `hyperparameters`.
        """
        self._planned(cell)
        return CheckpointStore(self.path / "cells" / cell / "checkpoints")

    def _planned(self, cell: str) -> Mapping[str, Any]:
        known = self.manifest["plan"]["cells"]
        if cell not in known:
            raise ValueError(
                f"{str(self.path)!r}: no cell {cell!r}, expected one of {list(known)}"
                f"{nearest(cell, known)}"
            )
        return known[cell]

    def changed_data(self) -> str:
        """One sentence if the user's data have changed since the run began, else ``""``."""
        return changed_since(self.recipe, self.manifest.get("data_sha256"))

    def finished(self) -> bool:
        """Whether every cell has its last checkpoint."""
        last = self.manifest["plan"]["steps"]
        return all(last in self.store(cell).steps() for cell in self.cells)


def open_run(path: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None) -> Run:
    """Opens a run directory for reading.

    Args:
      path: a folder that a sweep wrote.
      data: new location of the recipe's data, if they have moved: the file of ``npz:PATH``, or the
        folder of the images or official files.

    Returns:
      The run.

    Raises:
      ValueError: if the folder holds no run, if the manifest is damaged or has an unknown format,
        or if the moved data have another SHA-256 than the run's.

    Example:
      >>> from onesided_jax import open_run
      >>> open_run("no/such/folder")
      Traceback (most recent call last):
      ...
      ValueError: 'no/such/folder' holds no run: expected a folder with manifest.json, ...
    """
    path = Path(path)
    if not _holds_manifest(path):
        raise ValueError(
            f"{str(path)!r} holds no run: expected a folder with {manifests.MANIFEST}, "
            "as written by `onesided sweep ... --out FOLDER`"
        )
    data_path = None if data is None else Path(data).absolute()
    run = Run(path.absolute(), manifests.read(path), data_path)
    if data is not None and (changed := run.changed_data()):
        raise ValueError(f"data={str(data)!r}: {changed}")
    return run


def _holds_manifest(path: Path) -> bool:
    return (path / manifests.MANIFEST).exists()


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str], *, plan: Mapping[str, Any], recipe: Recipe | None
) -> Iterator[Run]:
    """Locks a run directory for writing; creates it if it is new.

    With several processes, the first one creates and locks it, then the others open it. ``plan`` is
    the part of the manifest that must agree.

    Raises:
      ValueError: if the folder holds anything else; nothing is changed.
      LockedError: if another process is writing to it; names its host and process id.
    """
    path, opened = Path(path), None

    def begin() -> None:
        nonlocal opened
        _existing(path, plan, recipe)
        path.mkdir(parents=True, exist_ok=True)
        held.enter_context(lock(path / _LOCK))
        opened = create_or_open(path, plan=plan, recipe=recipe)

    def follow() -> Run:
        run = opened or _existing(path, plan, recipe, longer=False)
        if run is None:
            raise ValueError(
                f"process {processes.index()} cannot see the folder {str(path)!r} of process 0: "
                "expected a folder that all processes share, under the same name"
            )
        return run

    with contextlib.ExitStack() as held:
        processes.first(begin)
        yield processes.together(follow)


def create_or_open(
    path: str | os.PathLike[str], *, plan: Mapping[str, Any], recipe: Recipe | None
) -> Run:
    """Creates a run directory, or opens the one that holds this run; see :func:`writing`.

    If the plan differs only by more steps, the manifest takes over its steps.

    Raises:
      ValueError: if the folder holds anything else; nothing is changed.
    """
    path = Path(path)
    run = _existing(path, plan, recipe)
    path.mkdir(parents=True, exist_ok=True)
    for stale in path.glob(".manifest.*json.*"):  # left by a kill
        stale.unlink()
    if run is not None and run.manifest["plan"]["steps"] < plan["steps"]:
        longer = {"plan": _longer(run.manifest["plan"], plan), "recipe": None}
        if run.manifest["recipe"] is not None:
            longer["recipe"] = _longer(run.manifest["recipe"], plan)
        return Run(path, manifests.write(path, {**run.manifest, **longer}))
    if run is not None:
        return run
    manifest = {
        "format": manifests.FORMAT,
        "created": manifests.now(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **manifests.origin(),
        "recipe": _content(recipe),
        "data_sha256": data_sha256(recipe),
        "plan": json.loads(json.dumps(plan)),
        "widths": {},
    }
    return Run(path, manifests.write(path, manifest))


def _existing(
    path: Path, plan: Mapping[str, Any], recipe: Recipe | None, *, longer: bool = True
) -> Run | None:
    """The run in a folder, or ``None`` for a new one; ``longer`` allows a run with fewer steps."""
    check_path(path)
    if _holds_manifest(path):
        run = open_run(path)
        plan, content = json.loads(json.dumps(plan)), _content(recipe)
        # Convert the recipe to this version's fields: an older one may lack fields with defaults.
        begun = run.manifest["plan"], placeless(_content(run.recipe))
        if longer:
            begun = tuple(_longer(part, plan) for part in begun)
        if begun != (plan, placeless(content)):
            resume = "" if run.recipe is None else ", or `onesided resume` that one"
            raise ValueError(
                f"{str(path)!r} holds another run ({difference(run.manifest, plan, content)}): "
                f"choose another output folder{resume}. A run can be extended by steps; more "
                "seeds or settings go into a new folder, and `onesided join` puts both together"
            )
        return run
    names = [p.name for p in path.iterdir()] if path.is_dir() else []
    # A kill at the beginning of a run leaves a lock and unfinished manifests.
    if path.exists() and (not path.is_dir() or not all(map(_UNBORN.fullmatch, names))):
        raise ValueError(f"{str(path)!r} exists and holds no run: choose another output folder")
    return None


def _longer(content: Any, plan: Mapping[str, Any]) -> Any:
    """A manifest's plan or recipe with the steps of ``plan``, if these are more."""
    return content and {**content, "steps": max(content["steps"], plan["steps"])}


@contextlib.contextmanager
def replacing(run: Run, name: str, last: str) -> Iterator[Path]:
    """Yields an empty folder; its files replace files of the run directory at the end.

    All files are complete before the first one is replaced. The file ``last`` is removed first and
    replaced last, so a reader that checks for it never sees a mixture of old and new files. One
    process at a time can replace the files called ``name``, such as ``"analysis"``.
    """
    folder = run.path / f".{name}.new"
    with lock(run.path / f"{name}.lock"):
        for stale in run.path.glob(f".{name}.*"):  # left by a kill
            shutil.rmtree(stale, ignore_errors=True)
        try:  # a signal may come between any two lines
            folder.mkdir()
            yield folder
            (run.path / last).unlink(missing_ok=True)
            for file in sorted((p.name for p in folder.iterdir()), key=lambda file: file == last):
                (folder / file).replace(run.path / file)
        except Exception as error:
            if errno_of(error) not in DISK_ERRORS:
                raise
            size = sum(p.stat().st_size for p in folder.iterdir()) if folder.exists() else 0
            raise write_error(run.path, size, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def latest_valid(
    store: CheckpointStore,
) -> tuple[tuple[int, dict[str, Any]] | None, list[str]]:
    """The newest undamaged checkpoint as ``(step, arrays)``, and a message per skipped one."""
    skipped: list[str] = []
    for step in reversed(store.steps()):
        try:
            return (step, store.read(step)), skipped
        except DamagedCheckpointError as error:
            skipped.append(str(error))
    return None, skipped


def read_metrics(
    store: CheckpointStore,
    last: int,
    every: int,
    shape: tuple[int, int],
    on_damage: Callable[[str], None] = lambda message: None,
) -> list[dict[str, np.ndarray]]:
    """Metrics of every chunk up to step ``last``, each ``float[R, records]``.

    The checkpoint of ``last`` must be undamaged. Metrics of another damaged or missing checkpoint
    are NaN, and ``on_damage`` is called with one sentence.
    """
    segments: dict[int, dict[str, np.ndarray]] = {}
    for step in range(every, last + 1, every):
        try:
            segments[step] = store.read(step)["metrics"]
        except DamagedCheckpointError as error:
            on_damage(f"{error}; its metrics are shown as NaN")
    missing = {name: np.full(shape, np.nan) for name in segments.get(last, {})}
    return [segments.get(step, missing) for step in range(every, last + 1, every)]


def _content(recipe: Recipe | None) -> Any:
    return None if recipe is None else json.loads(recipe.to_json())
