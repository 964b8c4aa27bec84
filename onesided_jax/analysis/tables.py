"""Measurements as an xarray dataset with named dimensions, and as tidy tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from onesided_jax.analysis.cell import CellMeasures
from onesided_jax.analysis.estimators import norm_and_limit
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.minty import CONTROLS, MintyTest, significant_signs
from onesided_jax.analysis.source import Snapshot, Source, pick_run
from onesided_jax.games import Game
from onesided_jax.players import make_key

__all__ = ["combined", "encoding", "norm_table", "run_table"]

_NAMES = {"ratio": "late_over_early"}
_COMPRESSED = 1000  # entries; compression does not shrink smaller arrays
_IMAGES, _POINTS, _SAMPLE_RUNS = 64, 512, 4


def combined(cells: Sequence[CellMeasures], gates: Sequence[Gate], game: Game) -> xr.Dataset:
    """The measurements of all cells, with dimensions optimizer, run, step, player, record, ..."""
    datasets = [
        _of_cell(cell, gate, game).expand_dims(optimizer=[cell.source.label])
        for cell, gate in zip(cells, gates, strict=True)
    ]
    dataset: Any = xr.concat(
        datasets, "optimizer", join="outer", data_vars="all", coords="minimal", compat="override"
    )
    if "quality_gate_reason" in dataset:  # where one optimizer has more runs than another
        dataset["quality_gate_reason"] = dataset["quality_gate_reason"].fillna("")
    return dataset


def _of_cell(cell: CellMeasures, gate: Gate, game: Game) -> xr.Dataset:
    source = cell.source
    variables: dict[str, Any] = {
        "last_step": source.steps[-1],
        "seed": ("run", source.seeds.astype(float)),
        "diverged_at": ("run", source.diverged_at.astype(float)),
        "constant_rates": ("run", source.constant_rates.astype(float)),
        **{f"hp_{name}": ("run", values) for name, values in source.hyperparameters.items()},
    }
    limits = [norm_and_limit(player) for player in cell.norms]
    norms = {
        "gradient_norm_sq": [player.value for player in cell.norms],
        "gradient_norm_sq_se": [player.standard_error for player in cell.norms],
        "gradient_norm": [norm for norm, _ in limits],
        "gradient_norm_limit": [limit for _, limit in limits],
    }
    for name, players in norms.items():
        variables[name] = (("run", "step", "player"), np.stack(players, axis=-1))
    for name in ("early", "late", "early_floored", "late_floored", "ratio"):
        stacked = np.stack([getattr(player, name) for player in cell.change], axis=-1, dtype=float)
        if cell.windows_lack:  # the checkpoint nearest to an empty window gives no late norm
            stacked[:] = np.nan
        variables[_NAMES.get(name, f"norm_{name}")] = (("run", "player"), stacked)
    coordinates: dict[str, Any] = {"step": source.steps, "player": ["primal", "dual"]}
    if source.metrics:
        for name, key in (("loss", "loss"), ("minibatch_gradient_norm", "gradient_norm")):
            both = [source.metrics[f"{key}_{player}"] for player in coordinates["player"]]
            variables[name] = (("run", "record", "player"), np.stack(both, axis=-1).astype(float))
        records = next(iter(source.metrics.values())).shape[1]
        coordinates["record"] = source.record_every * np.arange(1, records + 1)
    for name, values in cell.quality.items():
        variables[f"quality_{name}"] = (("run", "evaluation"), values)
    if gate.passes is not None:
        variables["quality_gate"] = ("run", gate.passes.astype(float))
        variables["quality_gate_reason"] = ("run", np.array(gate.reasons, object))
    dataset = xr.Dataset(variables, {"run": np.arange(len(source.seeds)), **coordinates})
    if cell.tests:
        dataset = dataset.merge(_minty_dataset(cell.tests, cell.tested))
    return dataset.merge(_pictures(source, game))


def _minty_dataset(tests: dict[int, MintyTest], tested: list[int]) -> xr.Dataset:
    matrices = ("mvi_run", "row", "column")
    every = list(tests.values())

    def stack(name: str) -> np.ndarray:
        return np.stack([np.asarray(getattr(test, name), float) for test in every])

    inner, error = stack("inner"), stack("error")
    controls = [[test.controls.get(name, np.nan) for name in CONTROLS] for test in every]
    entries = {
        "mvi_inner": inner,
        "mvi_se": error,
        "mvi_cosine": stack("cosine"),
        "mvi_sign": significant_signs(inner, error),
    }
    with np.errstate(over="ignore"):  # single precision, because they are most of the file
        variables: dict[str, Any] = {
            name: (matrices, v.astype(np.float32)) for name, v in entries.items()
        }
    variables |= {
        f"mvi_{name}": ("mvi_run", stack(name))
        for name in ("negative_mass", "noise_mass", "mean_cosine")
    }
    variables["mvi_control"] = (("mvi_run", "control"), np.array(controls))
    variables["necessary"] = (("mvi_run", "column"), stack("necessary"))
    return xr.Dataset(
        variables,
        {
            "mvi_run": list(tests),
            "row_step": ("row", tested),
            "column_step": ("column", tested),
            "control": list(CONTROLS),
        },
    )


def encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Encodings of the variables: lossless compression of large numerical arrays."""
    compressed = {"zlib": True, "complevel": 1, "shuffle": True}
    return {
        str(name): compressed
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind in "fiu" and variable.size >= _COMPRESSED
    }


def _pictures(source: Source, game: Game) -> xr.Dataset:
    """Samples of a GAN's generators, or primal paths with 1 or 2 coordinates."""
    last = source.snapshot(source.steps[-1])
    if game.generate is not None:
        alive = np.flatnonzero(source.diverged_at < 0)[:_SAMPLE_RUNS].tolist()
        return _samples(last, alive, game) if alive else xr.Dataset()
    primal = last.players.primal
    if not isinstance(primal, np.ndarray) or primal.ndim != 2 or primal.shape[1] > 2:
        return xr.Dataset()
    path = [np.asarray(source.snapshot(step).players.primal) for step in source.steps]
    dims = ("path_run", "step", "primal_coordinate")
    coordinates = {"path_run": np.arange(len(primal)), "step": source.steps}
    return xr.Dataset({"path": (dims, np.stack(path, axis=1))}, coordinates)


def _samples(last: Snapshot, runs: list[int], game: Game) -> xr.Dataset:
    generate: Any = game.generate
    shown = [(pick_run(last.averaged(), r), pick_run(last.state, r)) for r in runs]
    shape = jax.eval_shape(lambda p, s: generate(p, s, make_key(0), 1), *shown[0]).shape[1:]
    count = _POINTS if shape == (2,) else _IMAGES
    draw = jax.jit(lambda p, s: generate(p, s, make_key(0), count))
    samples = np.stack([np.asarray(draw(*run)) for run in shown])
    if len(shape) == 3:
        pixels = np.clip((samples + 1) * 127.5, 0, 255).round().astype(np.uint8)
        dims = ("sample_run", "sample", "height", "width", "channel")
        return xr.Dataset({"samples": (dims, pixels)}, {"sample_run": runs})
    if shape == (2,):
        dims = ("sample_run", "sample", "coordinate")
        return xr.Dataset({"points": (dims, samples)}, {"sample_run": runs})
    return xr.Dataset()


def norm_table(dataset: xr.Dataset) -> Any:
    """A data frame with one row per optimizer, run, checkpoint and player."""
    names = ["gradient_norm_sq", "gradient_norm_sq_se"]
    return dataset[names].to_dataframe().reset_index().dropna(subset=names[:1])


def run_table(dataset: xr.Dataset) -> Any:
    """A data frame with one row per run: seed, hyperparameters, divergence, final norms, quality.

    Measures of quality are means over the evaluation seeds.
    """
    names = [n for n in dataset if n in ("seed", "diverged_at") or str(n).startswith("hp_")]
    table = dataset[names]
    for player in ("primal", "dual"):
        table[f"final_gradient_norm_sq_{player}"] = (
            dataset["gradient_norm_sq"].sel(player=player, drop=True).isel(step=-1, drop=True)
        )
    for name in (str(n) for n in dataset if str(n).startswith("quality_")):
        each = dataset[name]
        table[name] = each.mean("evaluation") if "evaluation" in each.dims else each
    return table.to_dataframe().reset_index().dropna(subset=["seed"])
