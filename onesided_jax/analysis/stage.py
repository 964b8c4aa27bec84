"""The analysis stage: measure, judge, write."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onesided_jax.analysis._modes import Mixture
from onesided_jax.analysis._sample_quality import find_data, measure_quality
from onesided_jax.analysis.cell import (
    CellMeasures,
    measure_cell,
    norms_lack,
    player_names,
    x_star,
)
from onesided_jax.analysis.gate import Gate, gate_limits, quality_gate, why_no_gate
from onesided_jax.analysis.measure import Probe, make_probe
from onesided_jax.analysis.source import Source, from_result, from_run, groups_of, notes_of
from onesided_jax.analysis.verdict import Runs, Verdict, convergence_verdict, minty_verdict
from onesided_jax.datasets import Dataset
from onesided_jax.extras import need
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria, Run, build_game, numerics, open_run, replacing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Analysis", "analyze", "load_analysis"]


class Analysis(NamedTuple):
    """Measurements and verdicts.

    Attributes:
      dataset: everything measured, with named dimensions.
      verdicts: one per claim, optimizer and setting of its hyperparameters.
      notes: warnings: skipped checkpoints, repeated seeds, an unfinished run, a data file that
        changed since training.
    """

    dataset: xr.Dataset
    verdicts: list[Verdict]
    notes: list[str]


def analyze(
    run_or_result: Any,
    game: Game | None = None,
    *,
    criteria: Criteria | None = None,
    constant_rates: bool = True,
    data: Dataset | Mixture | None = None,
    quality: bool = True,
    inception: str | os.PathLike[str] | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Analysis:
    """Answers the two questions of the paper for every optimizer and setting of a run.

    Does only the primal player's gradient norm fall? Does the one-sided MVI hold late in training?
    Norms are U-statistics on evaluation minibatches; the MVI is measured by a cross matrix. Each
    claim has one boundary per statistic (:class:`onesided_jax.runs.Criteria`). Its verdict has a
    status, an effect and an interval.

    If samples can be compared with labelled images or a known mixture, the quality of each run's
    last generator is measured (:func:`quality`). Verdicts then count the runs that pass the gate
    (:func:`quality_gate`), because a gradient also vanishes when a generator collapses.

    Args:
      run_or_result: a run directory (path or ``Run``) or a ``SweepResult``. A run directory's game
        is rebuilt from its recipe. ``analysis.nc``, ``verdict.json``, ``runs.csv`` and
        ``gradient_norms.csv`` are written into it.
      game: the game, if neither a recipe nor the result knows it.
      criteria: boundaries and sample sizes; ``None`` takes those of the recipe.
      constant_rates: pass ``False`` if a learning rate changes during training. Convergence is then
        undecided, because a generator comes to rest in any game if its discriminator slows down.
        The decay of a recipe's optimizers, and of runs with ``power`` above 0, is known.
      data: the real data that generators imitate; ``None`` takes the recipe's.
      quality: ``False`` skips sample quality and its gate.
      inception: TorchScript file of the Inception network, to measure each run's standard FID; see
        :func:`quality_reference`.
      on_progress: called with a label, the number of parts done, and the number of all parts.

    Returns:
      An :class:`Analysis`.

    Raises:
      ImportError: if a package of the extra ``analysis`` is missing, before anything is measured.
      ValueError: if the game is unknown, no checkpoint can be read, or ``data`` is unsuitable.

    Example:
      >>> from onesided_jax import adam, analyze, games, grid, sweep
      >>> runs = grid(seeds=2, primal_learning_rate=0.02, dual_learning_rate=0.2)
      >>> result = sweep(games.carousel(), adam, runs, steps=60, checkpoint_every=2)
      >>> found = analyze(result)
      >>> for verdict in found.verdicts:  # two seeds are too few to say
      ...     print(verdict.claim, "|", verdict.status, "|", verdict.numbers["missing"])
      only the primal player converges | undecided | 2 seeds, 3 needed
      the one-sided MVI holds late in the run | undecided | 2 seeds, 3 needed
    """
    on_disk = isinstance(run_or_result, (str, os.PathLike, Run))
    need("analysis", "analyze", "scipy", "xarray", *["h5netcdf"] * on_disk)
    tell = on_progress or (lambda *_: None)
    if not on_disk:
        game = game or run_or_result.game
        assert game is not None
        real = find_data(game, None, data, inception, quality)
        sources = _as_told([from_result(run_or_result)], constant_rates)
        with numerics(None):
            return _analyze(sources, game, criteria or Criteria(), real, inception, tell)
    run = run_or_result if isinstance(run_or_result, Run) else open_run(Path(run_or_result))
    recipe = run.recipe
    if game is None and recipe is None:
        raise ValueError(
            f"{str(run.path)!r} has no recipe to rebuild the game from: call analyze(run, game)"
        )
    with replacing(run, "analysis", "verdict.json") as folder, numerics(recipe):
        game = game or build_game(recipe.game, recipe.precision)  # pyright: ignore[reportOptionalMemberAccess]
        criteria = criteria or (recipe.criteria if recipe is not None else Criteria())
        real = find_data(game, recipe, data, inception, quality)
        sources = _as_told([from_run(run, cell, game) for cell in run.cells], constant_rates)
        notes = [changed] if (changed := run.changed_data()) else []
        found = _analyze(sources, game, criteria, real, inception, tell, notes)
        if recipe is not None:
            names = {"recipe_name": recipe.name, "game": recipe.game.name}
            found.dataset.attrs |= {**names, "game_description": recipe.description}
        _write(folder, found)
    return found


_probe = functools.lru_cache(maxsize=4)(make_probe)  # few, because a game may hold a data set


def _as_told(sources: list[Source], constant_rates: bool) -> list[Source]:
    return [s._replace(constant_rates=s.constant_rates & constant_rates) for s in sources]


def load_analysis(run: Run) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """Reads the dataset and the verdicts (as dicts) that :func:`analyze` wrote.

    Raises:
      ImportError: if a package of the extra ``analysis`` is missing.
      ValueError: if the run has not been analysed; the message names the command.
    """
    need("analysis", "load_analysis", "xarray", "h5netcdf")
    import xarray as xr

    again = f"run `onesided analyze {run.path}`"
    if not all((run.path / name).is_file() for name in ("analysis.nc", "verdict.json")):
        raise ValueError(f"{str(run.path)!r} has not been analysed: {again}")
    verdicts = json.loads((run.path / "verdict.json").read_text())
    with xr.open_dataset(run.path / "analysis.nc", engine="h5netcdf") as dataset:
        dataset.load()
    if not all("status" in v for v in verdicts) or "gradient_norm" not in dataset:
        raise ValueError(f"{str(run.path)!r} was analysed by an earlier version: {again}")
    return dataset, verdicts


def _analyze(
    sources: list[Source],
    game: Game,
    criteria: Criteria,
    real: tuple[Dataset | Mixture | None, str],
    inception: str | os.PathLike[str] | None,
    tell: Callable[[str, int, int], None],
    notes: Sequence[str] = (),
) -> Analysis:
    from onesided_jax.analysis.tables import combined

    probe = _probe(game, microbatches=criteria.microbatches, samples=criteria.mvi_samples)
    data, no_gate_why = real
    quality, about = [{}] * len(sources), {}
    if data is not None:
        quality, about = measure_quality(sources, game, data, inception, criteria, tell)
    measured = [
        measure_cell(source, game, probe, criteria, values, tell)
        for source, values in zip(sources, quality, strict=True)
    ]

    if data is not None:
        no_gate_why = no_gate_why or why_no_gate(about, criteria)
    gates = [Gate() if no_gate_why else _gate(cell, criteria) for cell in measured]
    verdicts = [
        verdict
        for cell, gate in zip(measured, gates, strict=True)
        for verdict in _judge(cell, gate, game, criteria)
    ]

    notes = [*notes, *(note for source in sources for note in notes_of(source))]
    dataset = combined(measured, gates, game)
    dataset.attrs = {
        **about,
        **{f"quality_gate_{k}": v for k, v in gate_limits(quality[0], criteria).items()},
        **_facts(sources[0], game, probe, criteria),
        **({"notes": "\n".join(notes)} if notes else {}),
    }
    if game.generate is not None and no_gate_why:
        dataset.attrs["quality_note"] = no_gate_why
        notes = [f"quality gate not evaluated: {no_gate_why}", *notes]
    return Analysis(dataset, verdicts, notes)


def _gate(cell: CellMeasures, criteria: Criteria) -> Gate:
    means = {name: values.mean(1) for name, values in cell.quality.items()}
    return quality_gate(means, criteria=criteria, diverged=cell.source.diverged_at >= 0)


def _judge(cell: CellMeasures, gate: Gate, game: Game, criteria: Criteria) -> Iterator[Verdict]:
    """Both verdicts on every setting of a cell."""
    source = cell.source
    for rows in groups_of(source):
        runs = Runs(
            source.label,
            {name: float(values[rows[0]]) for name, values in source.hyperparameters.items()},
            source.seeds[rows],
            source.diverged_at[rows] >= 0,
            player_names(game),
        )
        change = PrimalDual(*(player.of(rows) for player in cell.change))
        lack = norms_lack(cell, rows)
        yield convergence_verdict(runs, change, gate.of(rows), lack, criteria)
        tests = [cell.tests[run] for run in rows if run in cell.tests]
        yield minty_verdict(runs, tests, x_star(game), cell.tests_lack, criteria)


def _facts(source: Source, game: Game, probe: Probe, criteria: Criteria) -> dict[str, Any]:
    """Attributes of the dataset: boundaries, windows, names."""
    primal, dual = player_names(game)
    boundaries = ("generator_falls", "discriminator_stays", "parting", "negative_mass")
    return {
        "steps": source.total_steps,
        **({} if probe.exact else {"microbatches": criteria.microbatches}),
        "x_star": x_star(game),
        "primal_player": primal,
        "dual_player": dual,
        **{name: getattr(criteria, name) for name in boundaries},
        **{name: getattr(criteria, name) for name in ("early_window", "late_window")},
    }


def _write(folder: Path, analysis: Analysis) -> None:
    from onesided_jax.analysis.tables import encoding, norm_table, run_table

    # Build the file in memory, because HDF5 crashes the process if the disk is full.
    stored = analysis.dataset.to_netcdf(engine="h5netcdf", encoding=encoding(analysis.dataset))
    (folder / "analysis.nc").write_bytes(stored)
    verdicts = [verdict.to_json() for verdict in analysis.verdicts]
    (folder / "verdict.json").write_text(json.dumps(verdicts, indent=2, allow_nan=False) + "\n")
    norm_table(analysis.dataset).to_csv(folder / "gradient_norms.csv", index=False)
    run_table(analysis.dataset).to_csv(folder / "runs.csv", index=False)
