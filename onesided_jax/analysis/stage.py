"""The analysis stage: from checkpoints to a dataset, tables and verdicts."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from onesided_jax.analysis._cell import gradient_norms, known_target, minty_tests
from onesided_jax.analysis._modes import Mixture
from onesided_jax.analysis._sample_quality import (
    SampleQuality,
    find_data,
    measure_quality,
)
from onesided_jax.analysis.convergence_verdict import one_sided_convergence
from onesided_jax.analysis.estimators import TINY, SquaredNorm
from onesided_jax.analysis.gate import Gate, gate_of_runs, no_gate
from onesided_jax.analysis.inference import cross_regions
from onesided_jax.analysis.measure import Probe, make_probe
from onesided_jax.analysis.minty import MintyTest
from onesided_jax.analysis.mvi_verdict import SignFractions, one_sided_mvi
from onesided_jax.analysis.source import (
    Source,
    criteria_of,
    from_result,
    from_run,
    groups_of,
)
from onesided_jax.analysis.verdict import Verdict
from onesided_jax.datasets import Dataset
from onesided_jax.extras import need
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria, Run, build_game, numerics, open_run, replacing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Analysis", "analyze", "load_analysis"]


class Analysis(NamedTuple):
    """What the analysis stage finds.

    Attributes:
      dataset: everything measured, with named dimensions.
      verdicts: one per claim, optimizer and setting of its hyperparameters.
      notes: what was skipped and why (damaged checkpoints, too few of them, repeated seeds),
        whether the run is finished, and whether the data file is another than in training.
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

    Did the primal player's gradient norm converge while the dual's stayed high (one-sided
    convergence), and does the one-sided MVI hold along the trajectory? Norms are U-statistics on
    evaluation minibatches, the MVI is tested by the cross-evaluation matrix with its controls.

    Where generated samples can be compared with labelled images or a known mixture, every run's
    samples are measured at its last checkpoint (:func:`quality`), and only runs that pass the
    quality gate count as successfully trained (:func:`quality_gate`, P4): a gradient that vanished
    because the generator collapsed is no convergence. Elsewhere the verdicts say that there was no
    gate.

    Args:
      run_or_result: a run directory (path or ``Run``), whose game is rebuilt from its recipe, or a
        ``SweepResult``. In a run directory ``analysis.nc``, ``verdict.json``, ``runs.csv`` and
        ``gradient_norms.csv`` are written.
      game: the game; needed where there is no recipe.
      criteria: thresholds and sample sizes; ``None`` takes those fixed in the recipe.
      constant_rates: ``False`` says that a learning rate changes along the runs of a sweep without
        a recipe (a schedule, dual rate decay); one-sided convergence is then not judged, for a
        generator whose discriminator slows down comes to rest in any game. Of a recipe's optimizers
        it is known, and of any runs with a hyperparameter ``power`` above 0.
      data: the real data that generators imitate; ``None`` takes the recipe's.
      quality: ``False`` leaves sample quality and its gate out.
      inception: TorchScript file of the Inception network, for the standard FID of every run; see
        :func:`quality_reference`. Where the recipe's data train no classifier it is the only
        measure, and there is no gate.
      on_progress: called with a label, and how many of how many parts are done.

    Returns:
      An :class:`Analysis`.

    Raises:
      ImportError: if a package of the extra ``analysis`` is missing, before anything is measured.
      ValueError: if the game is needed and missing, there is nothing to read, or data were given
        that nothing can be compared with.

    Example:
      >>> from onesided_jax import adam, analyze, games, grid, sweep
      >>> game = games.carousel()
      >>> seeds, hyperparameters = grid(seeds=2, primal_learning_rate=0.02, dual_learning_rate=0.2)
      >>> result = sweep(
      ...     game,
      ...     lambda h: adam(**h),
      ...     seeds=seeds,
      ...     hyperparameters=hyperparameters,
      ...     steps=60,
      ...     checkpoint_every=2,
      ... )
      >>> found = analyze(result, game)
      >>> [(v.claim, v.holds) for v in found.verdicts]  # two seeds are too few to say
      [('one_sided_convergence', 'inconclusive'), ('one_sided_mvi', 'inconclusive')]
    """
    on_disk = isinstance(run_or_result, (str, os.PathLike, Run))
    need("analysis", "analyze", "scipy", "xarray", *["h5netcdf"] * on_disk)
    if isinstance(run_or_result, (str, os.PathLike)):
        run_or_result = open_run(Path(run_or_result))
    if not isinstance(run_or_result, Run):
        if game is None:
            raise ValueError("analyze(result, game): a SweepResult needs its game")
        sources = _sources([from_result(run_or_result)], constant_rates)
        real = find_data(game, None, data, inception, quality)
        with numerics(None):
            return _analyze(sources, game, criteria or Criteria(), {}, real, inception, on_progress)
    run = run_or_result
    recipe = run.recipe
    if recipe is None and game is None:
        raise ValueError(
            f"{str(run.path)!r} has no recipe to rebuild the game from: call analyze(run, game)"
        )
    with replacing(run, "analysis", "verdict.json") as folder, numerics(recipe):
        if game is None:
            assert recipe is not None
            game = build_game(recipe.game, recipe.precision)
        real = find_data(game, recipe, data, inception, quality)
        sources = _sources([from_run(run, cell, game) for cell in run.cells], constant_rates)
        attributes = (
            {}
            if recipe is None
            else {
                "recipe_name": recipe.name,
                "game": recipe.game.name,
                "game_description": recipe.description,
            }
        )
        changed = run.changed_data()
        analysis = _analyze(
            sources, game, criteria or criteria_of(run), attributes, real, inception, on_progress,
            noted=[changed] if changed else [],
        )  # fmt: skip
        _write(folder, analysis)
    return analysis


@functools.lru_cache(maxsize=4)  # few, for a game may hold a data set
def _probe(
    init: Any, sample: Any, field: Any, slope: Any, microbatches: int, samples: int
) -> Probe:
    """Equal functions are measured by the same programs, as they are trained by the same."""
    game = Game(init, sample, field, primal_slope=slope)
    return make_probe(game, microbatches=microbatches, samples=samples)


def _sources(found: list[Source], constant_rates: bool) -> list[Source]:
    return [
        source._replace(constant_rates=source.constant_rates & constant_rates) for source in found
    ]


def load_analysis(run: Run) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """Reads back what :func:`analyze` wrote: the dataset, and the verdicts as dicts.

    Raises:
      ImportError: if a package of the extra ``analysis`` is missing.
      ValueError: if the run has not been analysed, with the command that does it.
    """
    need("analysis", "load_analysis", "xarray", "h5netcdf")
    import xarray as xr

    if not all((run.path / name).is_file() for name in ("analysis.nc", "verdict.json")):
        raise ValueError(
            f"{str(run.path)!r} has not been analysed: run `onesided analyze {run.path}`"
        )
    with xr.open_dataset(run.path / "analysis.nc", engine="h5netcdf") as dataset:
        return dataset.load(), json.loads((run.path / "verdict.json").read_text())


def _analyze(
    sources: list[Source],
    game: Game,
    criteria: Criteria,
    attributes: dict[str, Any],
    real: tuple[Dataset | Mixture | None, str],
    inception: str | os.PathLike[str] | None,
    on_progress: Callable[[str, int, int], None] | None,
    noted: Sequence[str] = (),
) -> Analysis:
    import xarray as xr

    from onesided_jax.analysis.tables import quality_dataset, to_dataset

    played = (game.init, game.sample, game.field, game.primal_slope)
    probe = _probe(*played, criteria.microbatches, criteria.mvi_samples)
    datasets, verdicts, notes = [], [], [*noted]
    tell_all = on_progress or (lambda *_: None)
    data, why_not = real
    found, about = [SampleQuality({}, no_gate(why_not))] * len(sources), {}
    if data is not None:
        found, about = measure_quality(sources, game, data, inception, criteria, tell_all)
        if why_not:  # Inception needs no labels, the gate does
            found = [one._replace(gate=no_gate(why_not)) for one in found]
    no_quality = []
    if game.generate is not None and found[0].gate.passes is None:
        no_quality = [f"quality gate not evaluated: {found[0].gate.note}"]
        about["quality_note"] = found[0].gate.note
    for source, measured in zip(sources, found, strict=True):
        notes += source.damaged
        if source.steps[-1] < source.total_steps:
            notes.append(
                f"{source.label}: trained to {source.steps[-1]} of {source.total_steps} steps; "
                "`onesided resume`, or the same call of `sweep`, goes on"
            )

        def tell(part: str, done: int, parts: int, label: str = source.label):
            tell_all(f"{label}: {part}", done, parts)

        norms = gradient_norms(source, probe, tell)
        tests, tested = minty_tests(source, game, probe, criteria, tell)
        if not tests:
            notes.append(f"{source.label}: no one-sided MVI test (too few checkpoints or runs)")
        groups = groups_of(source)
        if copies := len(source.seeds) - sum(map(len, groups)):
            notes.append(
                f"{source.label}: {copies} of {len(source.seeds)} runs repeat seed and "
                "hyperparameters of another; each seed counts once"
            )
        for rows in groups:
            gate = gate_of_runs(measured.gate, rows)
            verdicts += _judge(source, rows, norms, tests, tested, game, probe, criteria, gate)
        dataset = to_dataset(source, norms, tests, tested, game).merge(quality_dataset(measured))
        datasets.append(dataset.expand_dims(optimizer=[source.label]))
    combined: Any = xr.concat(
        datasets,
        dim="optimizer",
        join="outer",
        data_vars="all",
        coords="minimal",
        compat="override",
    )
    if "quality_gate_reason" in combined:  # where one optimizer has more runs than another
        combined["quality_gate_reason"] = combined["quality_gate_reason"].fillna("")
    combined.attrs = {
        **attributes,
        **about,
        "steps": sources[0].total_steps,
        **({"notes": "\n".join(notes)} if notes else {}),
        **({} if probe.exact else {"microbatches": criteria.microbatches}),
        "x_star": "known" if known_target(game) is not None else "held-out continuation",
    }
    return Analysis(combined, verdicts, no_quality + notes)


def _judge(
    source: Source,
    rows: np.ndarray,
    norms: PrimalDual,
    tests: dict[int, MintyTest],
    tested: list[int],
    game: Game,
    probe: Probe,
    criteria: Criteria,
    gate: Gate,
) -> Iterator[Verdict]:
    setting = {name: float(values[rows[0]]) for name, values in source.hyperparameters.items()}
    diverged = source.diverged_at[rows] >= 0
    yield one_sided_convergence(
        optimizer=source.label,
        hyperparameters=setting,
        steps=source.steps,
        total_steps=source.total_steps,
        primal=SquaredNorm(*(field[rows] for field in norms.primal)),
        dual=SquaredNorm(*(field[rows] for field in norms.dual)),
        diverged=diverged,
        criteria=criteria,
        constant_rates=bool(source.constant_rates[rows].all()),
        exact=probe.exact,
        quality_gate=gate,
        floor=PrimalDual(*(_rounding_floor(field.value[rows]) for field in norms)),
    )
    mine = [tests[run] for run in rows if run in tests]
    if not mine:
        return
    fresh = [test.fresh_dual for test in mine if test.fresh_dual is not None]
    flips = [t.flipped_dual for t in mine if t.flipped_dual is not None and t.flip_exact]
    yield one_sided_mvi(
        optimizer=source.label,
        hyperparameters=setting,
        signs=np.stack([test.sign for test in mine]),
        valid=np.stack([test.valid for test in mine]),
        target="known x*" if known_target(game) is not None else "held-out continuation",
        criteria=criteria,
        null=_stacked([test.null for test in mine]) if known_target(game) is None else None,
        fresh_dual=_stacked(fresh) if fresh else None,
        flipped_dual=_stacked(flips) if len(flips) == len(mine) else None,
        off_diagonal=cross_regions(tested, tested)["off_diagonal"],
        exact=probe.exact,
    )


def _rounding_floor(squared: np.ndarray) -> np.ndarray:
    """``[R]`` of ``[R, S]``: what lies below is rounding, if the game is deterministic."""
    precision = jax.numpy.finfo(jax.numpy.result_type(float)).eps
    largest = np.where(np.isfinite(squared), squared, 0.0).max(-1, initial=0.0)
    return np.maximum(TINY, float(precision) ** 2 * largest)


def _stacked(fractions: list[SignFractions]) -> SignFractions:
    return SignFractions(*(np.stack(field) for field in zip(*fractions, strict=True)))


def _write(folder: Path, analysis: Analysis) -> None:
    from onesided_jax.analysis.tables import encoding, norm_table, run_table

    # In memory first: HDF5 crashes the process where a disk is full.
    stored = analysis.dataset.to_netcdf(engine="h5netcdf", encoding=encoding(analysis.dataset))
    (folder / "analysis.nc").write_bytes(stored)
    verdicts = [verdict.to_json() for verdict in analysis.verdicts]
    (folder / "verdict.json").write_text(json.dumps(verdicts, indent=2, allow_nan=False) + "\n")
    norm_table(analysis.dataset).to_csv(folder / "gradient_norms.csv", index=False)
    run_table(analysis.dataset).to_csv(folder / "runs.csv", index=False)
