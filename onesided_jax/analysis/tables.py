"""What was measured, as an xarray dataset with named dimensions and as tidy tables."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import xarray as xr

from onesided_jax.analysis._sample_quality import SampleQuality
from onesided_jax.analysis.inference import cross_regions
from onesided_jax.analysis.minty import MintyTest
from onesided_jax.analysis.mvi_verdict import sign_fractions
from onesided_jax.analysis.source import Source, pick_run
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual, make_key

__all__ = ["encoding", "norm_table", "quality_dataset", "run_table", "to_dataset"]

REGIONS = ("diagonal", "near", "newer_dual", "older_dual", "off_diagonal")
CONTROLS = ("random x*", "fresh dual", "flipped dual")
_COMPRESSED = 1000  # entries; of fewer the compressed copy is no smaller
_IMAGES, _POINTS, _SAMPLE_RUNS = 64, 512, 4


def to_dataset(
    source: Source,
    norms: PrimalDual,
    tests: dict[int, MintyTest],
    tested: list[int],
    game: Game,
) -> xr.Dataset:
    """One cell's measurements.

    Args:
      source: the cell's runs.
      norms: both players' ``SquaredNorm[R, S]``.
      tests: the MVI tests by run index; may be empty.
      tested: the steps that they tested.
      game: what was played.

    Returns:
      A dataset over run, step, player, record, row, column, ...
    """
    players = ["primal", "dual"]
    run = np.arange(len(source.seeds))
    variables: dict[str, Any] = {
        "last_step": source.steps[-1],
        "seed": ("run", source.seeds.astype(float)),
        "diverged_at": ("run", source.diverged_at.astype(float)),
        "constant_rates": ("run", source.constant_rates.astype(float)),
        **{f"hp_{name}": ("run", values) for name, values in source.hyperparameters.items()},
    }
    for name, field in (("", "value"), ("_se", "standard_error"), ("_noise", "noise_trace")):
        stacked = np.stack([getattr(player, field) for player in norms], axis=-1)
        variables[f"gradient_norm_sq{name}"] = (("run", "step", "player"), stacked)
    if source.metrics:
        for name, key in (("loss", "loss"), ("minibatch_gradient_norm", "gradient_norm")):
            stacked = np.stack([source.metrics[f"{key}_{player}"] for player in players], axis=-1)
            variables[name] = (("run", "record", "player"), stacked.astype(float))
    coordinates: dict[str, Any] = {"run": run, "step": source.steps, "player": players}
    if source.metrics:
        records = next(iter(source.metrics.values())).shape[1]
        coordinates["record"] = source.record_every * np.arange(1, records + 1)
    dataset = xr.Dataset(variables, coordinates)
    if tests:
        dataset = dataset.merge(_minty_dataset(tests, tested))
    return dataset.merge(_pictures(source, game))


def _minty_dataset(tests: dict[int, MintyTest], tested: list[int]) -> xr.Dataset:
    matrices = ("mvi_run", "row", "column")
    regions = cross_regions(tested, tested)
    every = list(tests.values())

    def stack(name: str, dtype: type = float) -> np.ndarray:
        return np.stack([np.asarray(getattr(test, name)) for test in every]).astype(dtype)

    signs, valid = stack("sign"), stack("valid", bool)
    fractions = [sign_fractions(signs, valid & regions[region]) for region in REGIONS]
    return xr.Dataset(
        {
            # In single precision: they are most of the file. Verdicts are made of the originals.
            "mvi_inner": (matrices, _single(stack("inner"))),
            "mvi_t": (matrices, _single(stack("t"))),
            "mvi_cosine": (matrices, _single(stack("cosine"))),
            "mvi_sign": (matrices, _single(signs)),
            "mvi_valid": (matrices, _single(valid)),
            "mvi_fraction_negative": (
                ("mvi_run", "region"),
                np.stack([f.negative for f in fractions], axis=-1),
            ),
            "mvi_fraction_positive": (
                ("mvi_run", "region"),
                np.stack([f.positive for f in fractions], axis=-1),
            ),
            "mvi_control": (
                ("mvi_run", "control"),
                np.array(
                    [
                        [
                            np.nan if f is None else float(np.mean(f.negative))
                            for f in (test.null, test.fresh_dual, test.flipped_dual)
                        ]
                        for test in every
                    ]
                ),
            ),
            "mvi_flip_exact": ("mvi_run", np.array([float(t.flip_exact) for t in every])),
            "necessary": (("mvi_run", "column"), stack("necessary")),
            "dominance": ("mvi_run", np.array([test.dominance for test in every])),
        },
        {
            "mvi_run": list(tests),
            "row_step": ("row", tested),
            "column_step": ("column", tested),
            "region": list(REGIONS),
            "control": list(CONTROLS),
        },
    )


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """How the variables are stored: large arrays of numbers are compressed, without a loss."""
    compressed = {"zlib": True, "complevel": 1, "shuffle": True}
    return {
        str(name): compressed
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind in "fiu" and variable.size >= _COMPRESSED
    }


def _pictures(source: Source, game: Game) -> xr.Dataset:
    """Samples of a GAN's generators, or the primal paths of a small analytic game."""
    last = source.snapshot(source.steps[-1])
    if game.generate is not None:
        alive = [r for r in range(len(source.seeds)) if source.diverged_at[r] < 0][:_SAMPLE_RUNS]
        if not alive:
            return xr.Dataset()
        generate: Any = game.generate
        shown = [(pick_run(last.players, r), pick_run(last.state, r)) for r in alive]
        one = jax.eval_shape(lambda p, s: generate(p, s, make_key(0), 1), *shown[0])
        count = _POINTS if one.shape[1:] == (2,) else _IMAGES
        draw = jax.jit(lambda p, s: generate(p, s, make_key(0), count))
        samples = np.stack([np.asarray(draw(*run)) for run in shown])
        coordinates = {"sample_run": alive}
        if samples.ndim == 5:
            pixels = np.clip((samples + 1) * 127.5, 0, 255).round().astype(np.uint8)
            dims = ("sample_run", "sample", "height", "width", "channel")
            return xr.Dataset({"samples": (dims, pixels)}, coordinates)
        if samples.ndim == 3 and samples.shape[-1] == 2:
            dims = ("sample_run", "sample", "coordinate")
            return xr.Dataset({"points": (dims, samples)}, coordinates)
        return xr.Dataset()
    primal = last.players.primal
    if isinstance(primal, np.ndarray) and primal.ndim == 2 and primal.shape[1] <= 2:
        path = np.stack(
            [np.asarray(source.snapshot(s).players.primal) for s in source.steps], axis=1
        )
        dims = ("path_run", "step", "primal_coordinate")
        coordinates = {"path_run": np.arange(len(path)), "step": source.steps}
        return xr.Dataset({"path": (dims, path)}, coordinates)
    return xr.Dataset()


def quality_dataset(found: SampleQuality) -> xr.Dataset:
    """A cell's measures over run and evaluation seed, and its gate over run."""
    variables: dict[str, Any] = {
        f"quality_{name}": (("run", "evaluation"), values) for name, values in found.values.items()
    }
    if found.gate.passes is not None:
        variables["quality_gate"] = ("run", found.gate.passes.astype(float))
        variables["quality_gate_reason"] = ("run", np.array(found.gate.reasons, object))
    runs = {len(values) for values in found.values.values()}
    coordinates = {"run": np.arange(runs.pop())} if runs else {}
    return xr.Dataset(variables, coordinates)


def norm_table(dataset: xr.Dataset) -> Any:
    """A data frame with a row per optimizer, run, checkpoint and player."""
    names = ["gradient_norm_sq", "gradient_norm_sq_se"]
    return dataset[names].to_dataframe().reset_index().dropna(subset=names[:1])


def run_table(dataset: xr.Dataset) -> Any:
    """A data frame with a row per run: seed, hyperparameters, divergence, final norms, quality.

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
