"""The input of the report, and numbers that both figures and tables need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

PLAYERS = ("primal", "dual")
WIDE = 4
"""With more optimizers than this, figures of single runs show one run per optimizer."""
_MAX_RUNS = 3  # most runs per optimizer in such figures


class Section(NamedTuple):
    """The results of one run directory.

    Attributes:
      title: heading of the section.
      dataset: the analysis; variables may contain NaN padding, and every variable is optional.
      verdicts: one dict per claim, optimizer and setting, with the fields of
        :class:`onesided_jax.analysis.Verdict`.
      manifest: origin of the runs: ``recipe``, ``versions``, ``platform``, ``command``, ...
      notes: warnings, in addition to those of the analysis.
    """

    title: str
    dataset: xr.Dataset
    verdicts: list[dict[str, Any]]
    manifest: dict[str, Any]
    notes: tuple[str, ...] = ()


class Group(NamedTuple):
    """Runs that differ only in the seed.

    Attributes:
      hyperparameters: name -> value, only for hyperparameters of the optimizer.
      runs: positions of the runs within their :class:`Cell`.
    """

    hyperparameters: dict[str, float]
    runs: list[int]


class Cell(NamedTuple):
    """One optimizer's runs as plain arrays, cut off where a run diverged.

    Attributes:
      name: the optimizer's label.
      where: [runs] position of each run along the dataset's ``run`` axis, without padding.
      steps: [steps] steps of the checkpoints.
      norm: player -> [runs, steps] gradient norm; NaN below the noise floor.
      limit: player -> [runs, steps] upper limit of a norm below the noise floor, else NaN.
      late: player -> [runs] gradient norm in the late window; NaN for a diverged run.
      change: player -> [runs] late over early gradient norm; NaN for a diverged run.
      passes: [runs] 1 if the run passes the quality gate, 0 if it fails, NaN without a gate.
      diverged_at: [runs] step, or -1.
      seeds: [runs] seeds; NaN if unknown.
      hyperparameters: one dict per run.
      groups: the runs by hyperparameters.
      shown: the group that the curves show.
    """

    name: str
    where: np.ndarray
    steps: np.ndarray
    norm: dict[str, np.ndarray]
    limit: dict[str, np.ndarray]
    late: dict[str, np.ndarray]
    change: dict[str, np.ndarray]
    passes: np.ndarray
    diverged_at: np.ndarray
    seeds: np.ndarray
    hyperparameters: list[dict[str, float]]
    groups: list[Group]
    shown: Group


def median(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Median of the finite entries; NaN, without a warning, if there are none.

    Example:
      >>> median(np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]]))
      array([ 2., nan])
    """
    values = np.asarray(values, dtype=float)
    if values.ndim == 1:  # called for thousands of settings, and masked arrays are slow
        finite = values[np.isfinite(values)]
        return np.median(finite) if finite.size else np.array(np.nan)
    masked = np.ma.masked_invalid(values)
    if masked.shape[axis] == 0:
        return np.full(np.delete(masked.shape, axis), np.nan)
    return np.ma.filled(np.ma.median(masked, axis=axis), np.nan)


def evenly(values: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` rows, evenly chosen, with the first and the last.

    Example:
      >>> evenly(np.arange(100), 4), evenly(np.arange(3), 4)
      (array([ 0, 33, 66, 99]), array([0, 1, 2]))
    """
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def player_names(dataset: xr.Dataset) -> dict[str, str]:
    """Names of the two players."""
    return {player: dataset.attrs.get(f"{player}_player", f"{player} player") for player in PLAYERS}


def _key(hyperparameters: Mapping[str, Any]) -> frozenset[tuple[str, float]]:
    """A key of a setting, the same for its values in float32 and float64."""
    with np.errstate(over="ignore"):
        return frozenset(
            (name, float(np.float32(value)))
            for name, value in hyperparameters.items()
            if isinstance(value, int | float)
        )


def _groups(hyperparameters: list[dict[str, float]]) -> list[Group]:
    found: dict[frozenset[tuple[str, float]], Group] = {}
    for run, values in enumerate(hyperparameters):
        found.setdefault(_key(values), Group(values, [])).runs.append(run)
    return list(found.values()) or [Group({}, [])]


def _choose(
    name: str,
    groups: list[Group],
    verdicts: list[dict[str, Any]],
    late: np.ndarray,
    diverged: np.ndarray,
) -> Group:
    """The setting to show: the only judged one, else the one with the smallest late primal norm."""
    settings = {_key(v["setting"]) for v in verdicts if v["cell"] == name and v["setting"]}
    judged = [group for group in groups if _key(group.hyperparameters) in settings]
    if len(judged) == 1:
        return judged[0]

    def badness(group: Group) -> tuple[float, float]:
        value = float(median(late[group.runs]))
        return float(diverged[group.runs].mean()), np.inf if np.isnan(value) else value

    return min(groups, key=badness) if len(groups) > 1 else groups[0]


def _array(dataset: xr.Dataset, name: str, optimizer: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in dataset:
        return np.full(shape, np.nan)
    order = [dim for dim in ("run", "step", "player") if dim in dataset[name].dims]
    return dataset[name].sel(optimizer=optimizer).transpose(*order).values.astype(float)


def _cell(section: Section, optimizer: str) -> Cell:
    ds = section.dataset
    runs = ds.sizes.get("run", 0)
    steps = np.asarray(ds["step"].values) if "step" in ds else np.zeros(0)
    diverged_at = _array(ds, "diverged_at", optimizer, (runs,))
    diverged_at = np.where(np.isnan(diverged_at), -1, diverged_at).astype(int)
    seeds = _array(ds, "seed", optimizer, (runs,))
    norm, limit = (
        _array(ds, name, optimizer, (runs, len(steps), 2))
        for name in ("gradient_norm", "gradient_norm_limit")
    )
    measured = np.isfinite(norm) | np.isfinite(limit)
    known = measured.any((1, 2)) if "gradient_norm" in ds else np.isfinite(seeds)
    where = np.flatnonzero(known | (diverged_at >= 0))  # without padding
    diverged_at, seeds = diverged_at[where], seeds[where]
    lost = diverged_at >= 0

    def by_player(values: np.ndarray, gone: np.ndarray) -> dict[str, np.ndarray]:
        players = np.moveaxis(np.where(gone[..., None], np.nan, values[where]), -1, 0)
        return dict(zip(PLAYERS, players, strict=True))

    gone = lost[:, None] & (steps >= diverged_at[:, None])
    late, change = (
        by_player(_array(ds, name, optimizer, (runs, 2)), lost)
        for name in ("norm_late", "late_over_early")
    )
    names = [str(n) for n in ds.data_vars if str(n).startswith("hp_")]
    columns = {n.removeprefix("hp_"): _array(ds, n, optimizer, (runs,))[where] for n in names}
    hyperparameters = [
        {n: float(v[i]) for n, v in columns.items() if np.isfinite(v[i])} for i in range(len(where))
    ]
    groups = _groups(hyperparameters)
    return Cell(
        name=optimizer,
        where=where,
        steps=steps,
        norm=by_player(norm, gone),
        limit=by_player(limit, gone),
        late=late,
        change=change,
        passes=_array(ds, "quality_gate", optimizer, (runs,))[where],
        diverged_at=diverged_at,
        seeds=seeds,
        hyperparameters=hyperparameters,
        groups=groups,
        shown=_choose(optimizer, groups, section.verdicts, late["primal"], lost),
    )


def cells(section: Section) -> list[Cell]:
    """The section's optimizers, in the dataset's order."""
    if "optimizer" not in section.dataset.coords:
        return []
    return [_cell(section, str(name)) for name in section.dataset["optimizer"].values]


class Panel(NamedTuple):
    """One matrix or set of pictures.

    Attributes:
      optimizer: the optimizer's label.
      position: position of the run along its dimension (``mvi_run``, ``sample_run``).
      title: number and seed of the run, in words.
    """

    optimizer: str
    position: int
    title: str


def run_panels(section: Section, cells: list[Cell], dimension: str) -> list[Panel]:
    """Chooses the runs that get a panel: a few of each optimizer, or one if there are many."""
    ds = section.dataset
    count = min(ds.sizes[dimension], 1 if len(cells) > WIDE else _MAX_RUNS)
    runs = ds[dimension].values if dimension in ds.coords else np.arange(ds.sizes[dimension])
    out = []
    for position, run in enumerate(runs[:count].astype(int)):
        for cell in cells:
            seeds = cell.seeds[cell.where == run]
            if len(cell.where) and not len(seeds):
                continue  # padding: this optimizer has fewer runs
            known = len(seeds) and np.isfinite(seeds[0])
            seed = f", seed {int(seeds[0])}" if known else ""
            out.append(Panel(cell.name, position, f"run {run}{seed}"))
    return out


def panel_columns(cells: list[Cell], shown: list[Panel]) -> int | None:
    """One column per optimizer if that fills a rectangle; else None."""
    regular = len(cells) <= WIDE and len(shown) % max(len(cells), 1) == 0
    return len(cells) if regular else None
