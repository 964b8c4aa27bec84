"""What is measured of a cell of a run, and how it is read back."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _design import HERE, alone
from _jobs import Job, Row, grouped, read_table, write_table

import onesided_jax as osj
from onesided_jax.analysis._cell import gradient_norms
from onesided_jax.analysis._sample_quality import find_data, measure_quality
from onesided_jax.analysis.estimators import SquaredNorm, window_ratio
from onesided_jax.analysis.measure import Probe, make_probe
from onesided_jax.analysis.source import Source, from_run
from onesided_jax.datasets._files import cache_directory
from onesided_jax.runs import Criteria, Run, build_game

CLASSIFIERS = HERE / "classifiers"  # named by what they were trained on, see the cache of analysis
_REFERENCES = "reference-*.csv"  # one per classifier, beside the tables of quality


class Opened(NamedTuple):
    """A run directory with what measuring it takes."""

    run: Run
    game: osj.Game
    probe: Probe
    criteria: Criteria

    def source(self, cell: str) -> Source:
        return from_run(self.run, cell, self.game)


def opened(run: Run, recipe: osj.Recipe, like: Opened | None = None) -> Opened:
    """A run of the game of a recipe, to be measured by its criteria.

    Args:
      run: any run directory of that game.
      recipe: whose game and criteria.
      like: another run of the same recipe, opened: what is compiled for it serves both.
    """
    if like is not None:
        return like._replace(run=run)
    game, criteria = build_game(recipe.game, recipe.precision), recipe.criteria
    sizes = {"microbatches": criteria.microbatches, "samples": criteria.mvi_samples}
    return Opened(run, game, make_probe(game, **sizes), criteria)


def trained(job: Job, wanted: osj.Recipe, cells: Iterable[str]) -> Iterator[tuple[Opened, Source]]:
    """Cells of a recipe, each when it is trained; their measurements are compiled once."""
    what = None
    for cell in cells:
        what = opened(job.train(alone(wanted, cell)), wanted, like=what)
        yield what, what.source(cell)


def labels(source: Source) -> list[str]:
    """Of every run: the cell, and the values of those axes that have several."""
    several = {k: v for k, v in source.hyperparameters.items() if len(set(v.tolist())) > 1}
    return [
        " ".join([source.label, *(f"{name}={column[i]:g}" for name, column in several.items())])
        for i in range(len(source.seeds))
    ]


def unmeasured(
    folder: Path, cells: Iterable[str], kinds: Sequence[str] = ("norms", "quality")
) -> list[str]:
    """Cells of which :func:`measure` has not written everything; the others need no training."""
    return [c for c in cells if not all((folder / k / f"{c}.csv").exists() for k in kinds)]


def measure(job: Job, what: Opened, real: Any, source: Source, folder: Path) -> None:
    """Writes what is measured of a cell, ``norms`` and ``quality``, unless it is there."""
    measure_norms(job, what, source, folder / "norms" / f"{source.label}.csv")
    measure_samples(job, what, real, source, folder / "quality" / f"{source.label}.csv")


def measured(folder: Path, kind: str) -> dict[str, list[Mapping[str, str]]]:
    """The rows of all cells that :func:`measure` has written, by arm."""
    paths = [p for p in sorted((folder / kind).glob("*.csv")) if not p.stem.startswith("reference")]
    rows = itertools.chain.from_iterable(map(read_table, paths))
    return {arm: found for (arm,), found in grouped(rows, "arm").items()}


def references(folder: Path) -> list[Row]:
    """What the measures of sample quality in a folder are made of, a row per classifier."""
    paths = sorted((folder / "quality").glob(_REFERENCES))
    rows = itertools.chain.from_iterable(map(read_table, paths))
    return [{k.removeprefix("quality_"): v for k, v in row.items()} for row in rows]


def measure_norms(job: Job, what: Opened, source: Source, path: Path) -> None:
    """Writes unbiased squared gradient norms of every checkpoint of a cell."""
    if path.exists():
        return
    job.check()
    norms = gradient_norms(source, what.probe, lambda *_: None)
    players = source.snapshot(source.steps[0]).players._asdict()
    sizes = {
        f"{name}_parameters": sum(leaf[0].size for leaf in jax.tree.leaves(player))
        for name, player in players.items()
    }
    rows: list[Row] = []
    for i, label in enumerate(labels(source)):
        for j, step in enumerate(source.steps):
            row: Row = {"arm": label, "seed": int(source.seeds[i]), "step": step}
            for player in ("primal", "dual"):
                norm: SquaredNorm = getattr(norms, player)
                row |= {
                    player: norm.value[i, j],
                    f"{player}_se": norm.standard_error[i, j],
                    f"{player}_noise": norm.noise_trace[i, j],
                }
            row["diverged"] = bool(source.diverged_at[i] >= 0)
            rows.append(row | sizes | confounds(what.game, source, i, step))
    write_table(path, rows)
    job.say(f"{path.parent.parent.name}/{path.stem}: norms of {len(source.steps)} checkpoints")


def real_data(what: Opened, recipe: osj.Recipe) -> Any:
    """The data that the recipe names, to compare samples with."""
    real, why_not = find_data(what.game, recipe, None, None, True)
    assert real is not None, why_not
    return real


def measure_samples(job: Job, what: Opened, real: Any, source: Source, path: Path) -> None:
    """Writes the sample quality of every run of a cell, means over evaluation seeds.

    What the measures are made of is written beside it, the accuracy of the classifier included. The
    classifier is that of ``experiments/classifiers`` where it is there: another processor trains
    another one on the same data, whose distances are others.
    """
    if path.exists():
        return
    job.check()
    cache = cache_directory() / "classifiers"
    cache.mkdir(parents=True, exist_ok=True)
    for classifier in CLASSIFIERS.glob("*.npz"):
        shutil.copy(classifier, cache)
    (quality,), about = measure_quality(
        [source], what.game, real, None, what.criteria, lambda *_: None
    )
    facts = {k: v for k, v in about.items() if not k.startswith("quality_gate")}
    classifier = facts.get("quality_classifier_fingerprint", "")
    write_table(path.with_name(_REFERENCES.replace("*", classifier)), [facts])
    rows: list[Row] = []
    for i, label in enumerate(labels(source)):
        row: Row = {"arm": label, "seed": int(source.seeds[i])}
        row["diverged"] = bool(source.diverged_at[i] >= 0)
        row |= {k: float(values[i].mean()) for k, values in quality.values.items()}
        rows.append(row | {"classifier": classifier})
    write_table(path, rows)
    job.say(f"{path.parent.parent.name}/{path.stem}: quality of the samples")


@functools.cache
def _confounds(game: osj.Game) -> Callable[..., Any]:
    """``players, state -> ``norms of both players' weights, and both losses on one large batch."""
    keys = jax.random.split(jax.random.key(2109_14215), 4)

    @jax.jit
    def measure(players, state):
        def losses(key):
            return game.field(players, state, game.sample(key))[1].losses

        means = jax.tree.map(jnp.mean, jax.lax.map(losses, keys))
        lengths = [jnp.sqrt(sum(jnp.vdot(w, w) for w in jax.tree.leaves(p))) for p in players]
        return *lengths, *means

    return measure


def confounds(game: osj.Game, source: Source, run: int, step: int) -> Row:
    """What could make a gradient fall without convergence: growing weights, a perfect critic."""
    snapshot = source.snapshot(step)
    players, state = jax.tree.map(lambda leaf: leaf[run], snapshot)
    names = ("primal_weights", "dual_weights", "primal_loss", "dual_loss")
    return dict(zip(names, map(float, _confounds(game)(players, state)), strict=True))


class Norms(NamedTuple):
    """An arm's table of norms as arrays.

    Attributes:
      steps: ``int[S]``.
      seeds: ``R`` of them.
      primal: ``SquaredNorm[R, S]``.
      dual: ``SquaredNorm[R, S]``.
      diverged: ``bool[R]``.
    """

    steps: np.ndarray
    seeds: list[int]
    primal: SquaredNorm
    dual: SquaredNorm
    diverged: np.ndarray


def late_over(
    norms: Norms, early: tuple[float, float], criteria: Criteria, total_steps: int
) -> dict[str, np.ndarray]:
    """Of both players, late norm over that of any early window, of runs that did not diverge."""
    return {
        player: window_ratio(
            norms.steps, getattr(norms, player).value[~norms.diverged],
            early=early, late=criteria.late_window, total_steps=total_steps,
        )
        for player in ("primal", "dual")
    }  # fmt: skip


def norms_of(rows: Sequence[Mapping[str, str]]) -> Norms:
    """The rows of one arm."""
    steps = np.array(sorted({int(row["step"]) for row in rows}))
    seeds = sorted({int(row["seed"]) for row in rows})
    place = {(int(row["seed"]), int(row["step"])): row for row in rows}

    def column(name: str) -> np.ndarray:
        return np.array([[float(place[seed, step][name]) for step in steps] for seed in seeds])

    def norm(player: str) -> SquaredNorm:
        value, noise = column(player), column(f"{player}_noise")
        unknown = np.full_like(value, np.nan)  # the table does not say how many minibatches
        return SquaredNorm(value, column(f"{player}_se"), noise, unknown)

    diverged = np.array([place[seed, steps[0]]["diverged"] == "yes" for seed in seeds])
    return Norms(steps, seeds, norm("primal"), norm("dual"), diverged)
