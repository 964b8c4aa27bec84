"""Damage to the files of a run directory: found, told, passed over, repaired where that matters."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import onesided_jax as osj
from onesided_jax.cli import main
from onesided_jax.runs import Run, open_run

from .damage import DAMAGE, files_of
from .figures import Figures
from .workload import differences

__all__ = ["of_manifest", "of_newest", "of_older", "places"]


class Place(NamedTuple):
    """One file of one checkpoint, by its number (names are random), and what happens to it."""

    cell: str
    number: int
    damage: str

    def file(self, out: Path, step: int) -> Path:
        """The file in a copy of the run directory."""
        files = files_of(open_run(out).store(self.cell).path / str(step))
        return files[self.number % len(files)]


def places(run: Run, step: int) -> list[Place]:
    """Every place of the checkpoints of one step."""
    return [
        Place(cell, number, name)
        for cell in run.cells
        for number in range(len(files_of(run.store(cell).path / str(step))))
        for name in DAMAGE
    ]


def of_newest(folder: Path, whole: Run, chosen: Iterable[Place], seed: int = 0) -> Figures:
    """Damages the last checkpoint of a finished sweep, one file at a time, and resumes.

    Args:
      folder: for a copy.
      whole: the finished sweep.
      chosen: from :func:`places` of its last step.
      seed: of where in a file.
    """
    rng, out = random.Random(seed), folder / "newest"
    shutil.copytree(whole.path, out)
    last, every = (whole.manifest["plan"][name] for name in ("steps", "checkpoint_every"))
    injected = survived = changed = stuck = 0
    seconds = []
    for place in chosen:
        if not _inflict(place, place.file(out, last), rng):
            continue
        injected += 1
        said: list[str] = []
        began = time.monotonic()
        try:
            osj.resume(out, on_damage=said.append)
        except ValueError:
            stuck += 1
            shutil.rmtree(out)
            shutil.copytree(whole.path, out)
            continue
        seconds.append(time.monotonic() - began)
        different = differences(whole, out)
        changed += len(different)
        told = [
            f"/{place.cell}/checkpoints/{last}" in m and f"step {last - every}" in m for m in said
        ]
        survived += told == [True] and not different
    return Figures(
        "a file of the newest checkpoint damaged",
        injected,
        survived,
        changed,
        stuck,
        seconds,
        note="seconds to go back one checkpoint and compute the chunk again",
    )


def of_older(folder: Path, whole: Run, step: int, chosen: Iterable[Place]) -> Figures:
    """Damages a checkpoint in the middle of a finished, analysed sweep, and analyses again."""
    rng = random.Random(0)
    injected = survived = changed = stuck = 0
    expected = _norms(whole.path)
    for i, place in enumerate(chosen):
        out, cell = folder / f"older-{i}", place.cell
        shutil.copytree(whole.path, out)
        if not _inflict(place, place.file(out, step), rng):
            continue
        injected += 1
        try:
            found = osj.analyze(out)
        except ValueError:
            stuck += 1
            continue
        told = [note for note in found.notes if "; skipped" in note]
        norms = _norms(out).reindex_like(expected)
        mine = norms.sel(optimizer=cell)
        lost = [s for s in expected.step.values if np.isnan(mine.sel(step=s).values).all()]
        changed += not norms.where(norms.notnull(), expected).equals(expected)
        survived += len(told) == 1 and f"{cell}/checkpoints/{step}" in told[0] and lost == [step]
        shutil.rmtree(out)
    return Figures(
        "a file of an older checkpoint damaged, then analysed", injected, survived, changed, stuck
    )


def _inflict(place: Place, file: Path, rng: random.Random) -> bool:
    """Damages a file; whether that changed it (zeros can be zeroed)."""
    before = file.read_bytes()
    DAMAGE[place.damage](file, rng)
    return not file.exists() or file.read_bytes() != before


def _norms(path: Path) -> xr.DataArray:
    with xr.open_dataset(path / "analysis.nc") as dataset:
        return dataset["gradient_norm_sq"].load()


def of_manifest(folder: Path, whole: Run, *, every: int = 1) -> Figures:
    """Flips a bit in every n-th byte of the manifest, then cuts it: it is never read wrong."""
    out = folder / "manifest"
    out.mkdir()
    path = out / "manifest.json"
    content, injected, survived, changed = (whole.path / "manifest.json").read_bytes(), 0, 0, 0
    flips = (
        content[:i] + bytes([content[i] ^ (1 << i % 8)]) + content[i + 1 :]
        for i in range(0, len(content), every)
    )
    for damaged in itertools.chain(flips, [b"", content[:-1], content[: len(content) // 2]]):
        injected += 1
        path.write_bytes(damaged)
        try:
            opened = open_run(out)
        except ValueError as error:
            survived += "manifest.json" in str(error)
        else:
            changed += opened.manifest != whole.manifest
            survived += json.loads(damaged) == json.loads(content)
    return Figures("the manifest damaged", injected, survived, changed, 0, note="told")


def analysed(path: Path) -> Run:
    """A finished sweep with its analysis and its page."""
    for command in ("analyze", "report"):
        assert main([command, str(path)]) == 0
    return open_run(path)
