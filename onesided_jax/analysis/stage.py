"""The analysis stage: from checkpoints to a dataset, tables and verdicts."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from onesided_jax.analysis.estimators import TINY, SquaredNorm, cross_regions
from onesided_jax.analysis.measure import Probe, make_probe
from onesided_jax.analysis.minty import MintyTest, minty_test, test_steps
from onesided_jax.analysis.source import (
    Source,
    criteria_of,
    from_result,
    from_run,
    pick_run,
)
from onesided_jax.analysis.tables import norm_table, run_table, to_dataset
from onesided_jax.analysis.verdict import (
    SignFractions,
    Verdict,
    one_sided_convergence,
    one_sided_mvi,
)
from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.runs import Criteria, Run, build_game, open_run, precision

__all__ = ["Analysis", "analyze", "generate", "load_analysis"]

_FILES = ("analysis.nc", "verdict.json", "runs.csv", "gradient_norms.csv")


class Analysis(NamedTuple):
    """What the analysis stage finds.

    Attributes:
      dataset: everything measured, with named dimensions.
      verdicts: one per claim, optimizer and setting of its hyperparameters.
      notes: what was skipped and why (damaged checkpoints, too few of them).
    """

    dataset: xr.Dataset
    verdicts: list[Verdict]
    notes: list[str]


def analyze(
    run_or_result: Any,
    game: Game | None = None,
    *,
    criteria: Criteria | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Analysis:
    """Answers the two questions of the paper for every optimizer and setting of a run.

    Did the primal player's gradient norm converge while the dual's stayed high (one-sided
    convergence), and does the one-sided MVI hold along the trajectory? Norms are U-statistics on
    evaluation minibatches, the MVI is tested by the cross-evaluation matrix with its controls.

    Args:
      run_or_result: a run directory (path or ``Run``), whose game is rebuilt from its recipe, or a
        ``SweepResult``. In a run directory ``analysis.nc``, ``verdict.json``, ``runs.csv`` and
        ``gradient_norms.csv`` are written.
      game: the game; needed where there is no recipe.
      criteria: thresholds and sample sizes; ``None`` takes those fixed in the recipe.
      on_progress: called with a label, and how many of how many parts are done.

    Returns:
      An :class:`Analysis`.

    Raises:
      ValueError: if the game is needed and missing, or there is nothing to read.

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
    if isinstance(run_or_result, (str, os.PathLike)):
        run_or_result = open_run(Path(run_or_result))
    if not isinstance(run_or_result, Run):
        if game is None:
            raise ValueError("analyze(result, game): a SweepResult needs its game")
        sources = [from_result(run_or_result)]
        return _analyze(sources, game, criteria or Criteria(), {}, on_progress)
    run = run_or_result
    recipe = run.recipe
    if recipe is None and game is None:
        raise ValueError(
            f"{str(run.path)!r} has no recipe to rebuild the game from: call analyze(run, game)"
        )
    with precision(recipe):
        if game is None:
            assert recipe is not None
            game = build_game(recipe.game)
        sources = [from_run(run, cell, game) for cell in run.cells]
        attributes = (
            {}
            if recipe is None
            else {
                "recipe_name": recipe.name,
                "game": recipe.game.name,
                "game_description": recipe.description,
            }
        )
        analysis = _analyze(sources, game, criteria or criteria_of(run), attributes, on_progress)
    _write(run, analysis)
    return analysis


def load_analysis(run: Run) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """Reads back what :func:`analyze` wrote: the dataset, and the verdicts as dicts.

    Raises:
      ValueError: if the run has not been analysed, with the command that does it.
    """
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
    on_progress: Callable[[str, int, int], None] | None,
) -> Analysis:
    probe = make_probe(game, microbatches=criteria.microbatches, samples=criteria.mvi_samples)
    datasets, verdicts, notes = [], [], []
    for source in sources:
        notes += source.damaged

        def tell(part: str, done: int, parts: int, label: str = source.label):
            if on_progress is not None:
                on_progress(f"{label}: {part}", done, parts)

        norms = _norms(source, probe, tell)
        tests, tested = _minty_tests(source, game, probe, criteria, tell)
        if not tests:
            notes.append(f"{source.label}: no one-sided MVI test (too few checkpoints or runs)")
        for rows in _groups(source):
            verdicts += _judge(source, rows, norms, tests, tested, game, probe, criteria)
        dataset = to_dataset(source, norms, tests, tested, game)
        datasets.append(dataset.expand_dims(optimizer=[source.label]))
    combined: Any = xr.concat(
        datasets,
        dim="optimizer",
        join="outer",
        data_vars="all",
        coords="minimal",
        compat="override",
    )
    combined.attrs = {
        **attributes,
        "steps": sources[0].total_steps,
        **({} if probe.exact else {"microbatches": criteria.microbatches}),
        "x_star": "known" if _known_target(game) is not None else "held-out continuation",
    }
    return Analysis(combined, verdicts, notes)


def _norms(source: Source, probe: Probe, tell: Callable[..., None]) -> PrimalDual:
    """Squared norms of both players at every checkpoint, each ``SquaredNorm[R, S]``."""
    found = []
    for i, step in enumerate(source.steps):
        tell("gradient norms", i, len(source.steps))
        found.append(probe.norms(*source.snapshot(step)))
    tell("gradient norms", len(source.steps), len(source.steps))
    return PrimalDual(
        *(
            SquaredNorm(*(np.stack(field, axis=-1) for field in zip(*player, strict=True)))
            for player in zip(*found, strict=True)
        )
    )


def _known_target(game: Game) -> Any:
    return None if game.facts is None else game.facts.primal_solution


def _minty_tests(
    source: Source, game: Game, probe: Probe, criteria: Criteria, tell: Callable[..., None]
) -> tuple[dict[int, MintyTest], list[int]]:
    """A test of every run that did not diverge, by run index, and the tested steps."""
    tested = test_steps(source.steps, source.total_steps, criteria)
    alive = [run for run in range(len(source.seeds)) if source.diverged_at[run] < 0]
    if len(tested) < 3 or source.steps[-1] <= tested[-1] or source.steps[0] != 0:
        return {}, tested
    snapshots = [source.snapshot(step) for step in tested]
    first, last = source.snapshot(0), source.snapshot(source.steps[-1])
    tail_steps = [s for s in source.steps if s >= 0.9 * source.total_steps]
    tail = [source.snapshot(step).players.primal for step in tail_steps]
    known = _known_target(game)
    tests = {}
    for i, run in enumerate(alive):
        tell("one-sided MVI", i, len(alive))
        pick = functools.partial(pick_run, run=run)
        target, second = known, None
        if known is None:
            target = pick(last.players.primal)
            second = jax.tree.map(
                lambda *leaves: np.mean(leaves, axis=0), *(pick(primal) for primal in tail)
            )
        tests[run] = minty_test(
            game,
            probe,
            criteria,
            steps=tested,
            players=jax.tree.map(
                lambda *leaves: np.stack(leaves), *(pick(s.players) for s in snapshots)
            ),
            state=pick(last.state),
            first=pick(first.players.primal),
            target=target,
            second_target=second,
            run_seed=int(source.seeds[run]),
        )
    tell("one-sided MVI", len(alive), len(alive))
    return tests, tested


def _groups(source: Source) -> Iterator[np.ndarray]:
    """Indices of the runs that differ in the seed only."""
    names = list(source.hyperparameters)
    keys = list(zip(*(source.hyperparameters[n] for n in names), strict=True)) or [
        () for _ in source.seeds
    ]
    for key in dict.fromkeys(keys):
        yield np.array([i for i, other in enumerate(keys) if other == key])


def _judge(
    source: Source,
    rows: np.ndarray,
    norms: PrimalDual,
    tests: dict[int, MintyTest],
    tested: list[int],
    game: Game,
    probe: Probe,
    criteria: Criteria,
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
        quality_gate=None,
        floor=_rounding_floor(norms.primal.value[rows]) if probe.exact else TINY,
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
        target="known x*" if _known_target(game) is not None else "held-out continuation",
        criteria=criteria,
        null=_stacked([test.null for test in mine]) if _known_target(game) is None else None,
        fresh_dual=_stacked(fresh) if fresh else None,
        flipped_dual=_stacked(flips) if len(flips) == len(mine) else None,
        off_diagonal=cross_regions(tested, tested)["off_diagonal"],
        exact=probe.exact,
    )


def _rounding_floor(squared: np.ndarray) -> float:
    """Squared norms below this are rounding noise of a deterministic game."""
    precision = jax.numpy.finfo(jax.numpy.result_type(float)).eps
    finite = squared[np.isfinite(squared)]
    return max(TINY, float(precision) ** 2 * float(finite.max(initial=0.0)))


def _stacked(fractions: list[SignFractions]) -> SignFractions:
    return SignFractions(*(np.stack(field) for field in zip(*fractions, strict=True)))


def generate(run: Run, *, count: int, seed: int = 0) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Samples of every generator at its newest readable checkpoint.

    Args:
      run: a GAN run with a recipe.
      count: samples per generator.
      seed: seed of the latents, the same for all generators.

    Yields:
      ``(cell, run index, step, samples[count, ...])``.

    Raises:
      ValueError: if the run has no recipe or its game generates nothing.
    """
    recipe = run.recipe
    if recipe is None:
        raise ValueError(f"{str(run.path)!r} has no recipe to rebuild the game from")
    with precision(recipe):
        game = build_game(recipe.game)
        draw = game.generate
        if draw is None:
            raise ValueError(f"game={recipe.game.name!r} generates no samples; expected a GAN run")
        sample = jax.jit(lambda p, s: draw(p, s, jax.random.key(seed), count))
        for cell in run.cells:
            source = from_run(run, cell, game)
            last = source.snapshot(source.steps[-1])
            for index in range(len(source.seeds)):
                pick = functools.partial(pick_run, run=index)
                yield (
                    cell,
                    index,
                    source.steps[-1],
                    np.asarray(sample(pick(last.players), pick(last.state))),
                )


def _write(run: Run, analysis: Analysis) -> None:
    """Writes all files into a folder of their own first, then moves each into place."""
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".analysis.") as folder:
        new = Path(folder)
        analysis.dataset.to_netcdf(new / "analysis.nc", engine="h5netcdf")
        verdicts = [verdict.to_json() for verdict in analysis.verdicts]
        (new / "verdict.json").write_text(json.dumps(verdicts, indent=2, allow_nan=False) + "\n")
        norm_table(analysis.dataset).to_csv(new / "gradient_norms.csv", index=False)
        run_table(analysis.dataset).to_csv(new / "runs.csv", index=False)
        for name in _FILES:
            shutil.move(new / name, run.path / name)
