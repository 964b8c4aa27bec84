"""What the experiments on GANs share: scales, arms, resumable jobs, tables, the ledger."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import datetime
import functools
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

import onesided_jax as osj
from onesided_jax.analysis._cell import gradient_norms
from onesided_jax.analysis._sample_quality import find_data, measure_quality
from onesided_jax.analysis.estimators import SquaredNorm
from onesided_jax.analysis.inference import Interval
from onesided_jax.analysis.measure import Probe, make_probe
from onesided_jax.analysis.source import Source, from_run
from onesided_jax.runs import Criteria, Run, build_game, open_run

HERE = Path(__file__).parent
RESULTS = HERE / "results"
UNFINISHED = 3  # exit code: the time was over; the same command goes on

Row = dict[str, Any]


class Scale(NamedTuple):
    """How large an experiment is.

    Attributes:
      data: the data sets of the core.
      seeds: of the core; the ablations take the first three.
      game: options of the GAN that are the same in all arms.
      steps: training steps.
      checkpoints: how many, at the same steps in every arm.
      criteria: thresholds are the defaults; sample sizes follow the scale.
      arms: labels of the core's arms, all if empty.
      factors: of the ablations, all if empty.
      mvi_arms: whose cross matrices are measured.
    """

    data: tuple[str, ...]
    seeds: tuple[int, ...]
    game: Mapping[str, Any]
    steps: int
    checkpoints: int
    criteria: Criteria
    arms: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    mvi_arms: tuple[str, ...] = ("adam", "amsgrad_eg", "amsgrad_xeg")


_GAN = {"network": "dcgan", "loss": "non_saturating", "latent_dim": 64, "batch_size": 64}
_TINY = {**_GAN, "network": "mlp", "latent_dim": 4, "batch_size": 8, "width": 8}

SCALES = {
    "small": Scale(
        data=("mnist5k",),
        seeds=(0, 1),
        game=_TINY,
        steps=42,
        checkpoints=21,
        criteria=Criteria(
            microbatches=3, mvi_samples=8, mvi_rows=3, random_targets=2, fresh_duals=2,
            quality_samples=100, quality_seeds=2, slope_bins=3,
        ),
        arms=("adam", "amsgrad_xeg", "amsgrad_eg_drd"),
        factors=("loss",),
        mvi_arms=("adam",),
    ),
    "paper": Scale(
        data=("mnist5k", "fashion_mnist"),
        seeds=(0, 1, 2, 3, 4),
        game={**_GAN, "width": 32},
        steps=2_000,
        checkpoints=40,
        criteria=Criteria(mvi_samples=128),
    ),
    "large": Scale(
        data=("mnist", "fashion_mnist", "cifar10"),
        seeds=tuple(range(10)),
        game={**_GAN, "width": 64},
        steps=40_000,
        checkpoints=80,
        criteria=Criteria(),
    ),
}  # fmt: skip

PILOT_SEED = 100  # never used again; see pilot.py
REFERENCE = RESULTS / "pilot" / "reference.json"  # Fréchet distances of the pilot


def arm(
    name: str,
    primal: float | Sequence[float],
    dual: float | Sequence[float],
    label: str = "",
    **axes: float | Sequence[float],
) -> osj.OptimizerSpec:
    """An arm; several values of a hyperparameter are several runs a seed."""
    values = {"primal_learning_rate": primal, "dual_learning_rate": dual, **axes}
    columns = {k: tuple(v) if isinstance(v, Sequence) else (v,) for k, v in values.items()}
    return osj.OptimizerSpec(name, label=label or name, axes=columns)


_ADAM = {"b1": 0.5, "b2": 0.999}
_AMSGRAD = {"b2": 0.99, "eps": 1e-3}

BASELINE = arm("adam", 2e-4, 2e-4, **_ADAM)
ARMS = (
    BASELINE,
    arm("amsgrad_xeg", 1e-3, 1e-3, **_AMSGRAD),
    arm("amsgrad_eg", 5e-4, 5e-4, **_AMSGRAD),
    arm("amsgrad", 5e-4, 5e-4, b1=0.0, **_AMSGRAD),
    arm("adam", 2e-4, 2e-4, "adam_b1_0", b1=0.0, b2=0.999),
    arm("adam", 2e-4, 8e-4, "adam_ttur", **_ADAM),
    arm("amsgrad_eg_drd", 5e-4, 2e-3, power=(0.25, 0.5, 1.0), **_AMSGRAD),
)
"""The core's arms; experiments/design.md says why. Two more are in gradient_norms.py."""

OTHERS = (
    arm("alternating_adam", 2e-4, 2e-4, **_ADAM),
    arm("extra_adam", 2e-4, 2e-4, **_ADAM),
    arm("optimistic_adam", 2e-4, 2e-4, **_ADAM),
    arm("oadagrad", 1e-2, 1e-2),
    arm("sgda", 1e-1, 1e-2),
)
"""Optimizers around the core; rates of the last two are the pilot's."""


def core(data: str, scale: Scale) -> osj.Recipe:
    """The core on one data set."""
    arms = tuple(a for a in ARMS if not scale.arms or a.label in scale.arms)
    return recipe(f"core-{data}", scale, {**scale.game, "dataset": data}, arms, scale.seeds)


def recipe(
    name: str,
    scale: Scale,
    game: Mapping[str, Any],
    arms: Sequence[osj.OptimizerSpec],
    seeds: Sequence[int],
) -> osj.Recipe:
    every = scale.steps // scale.checkpoints
    return osj.Recipe(
        name=name,
        game=osj.GameSpec("gan", game),
        optimizers=tuple(arms),
        seeds=tuple(seeds),
        steps=every * scale.checkpoints,
        checkpoint_every=every,
        record_every=every,
        criteria=_with_reference(scale.criteria, str(game["dataset"])),
    )


def _with_reference(criteria: Criteria, data: str) -> Criteria:
    """The gate's reference distance on a data set, where a pilot has fixed one."""
    known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    return dataclasses.replace(criteria, gate_frechet_reference=known.get(data))


# --- jobs


class TimeIsOverError(Exception):
    """The job's minutes are used up; everything is saved."""


class Job:
    """One call of an experiment: where it writes, and how long it may take."""

    def __init__(self, name: str, doc: str, arguments: Sequence[str] | None = None):
        parser = argparse.ArgumentParser(prog=f"python experiments/{name}.py", description=doc)
        parser.add_argument("--scale", choices=tuple(SCALES), default="paper")
        parser.add_argument("--minutes", type=float, default=60.0, help="of this job, at most")
        parser.add_argument("--runs", type=Path, help="where checkpoints are, and go")
        parser.add_argument("--out", type=Path, help="folder of the results")
        parser.add_argument(
            "--cifar10",
            default="cifar10",
            help="its data set: official files, or npz:PATH with a part of them",
        )
        parser.add_argument(
            "--draw", action="store_true", help="only verdicts and figures, from what was measured"
        )
        options = parser.parse_args(arguments)
        self.name, self.scale_name, self.draw = name, options.scale, options.draw
        self.scale, self.cifar10 = SCALES[options.scale], options.cifar10
        self.runs = options.runs or HERE.parent / "runs" / "experiments" / options.scale
        default = RESULTS / name if options.scale == "paper" else self.runs / "results" / name
        self.out: Path = options.out or default
        self._began = time.monotonic()
        self._end = self._began + 60 * options.minutes

    def time_is_over(self) -> bool:
        return time.monotonic() > self._end

    def check(self) -> None:
        """Ends the job between two pieces of work if its time is over."""
        if self.time_is_over():
            raise TimeIsOverError

    def say(self, text: str) -> None:
        print(f"[{(time.monotonic() - self._began) / 60:5.1f} min] {text}", flush=True)

    def train(self, wanted: osj.Recipe, cell: str = "") -> Run:
        """Trains a recipe, or what is left of it; only as far as one of its cells, if it is given.

        Raises:
          TimeIsOverError: if the job's time ends before.
        """
        path, said = self.runs / wanted.name, dict[str, float]()

        def done() -> bool:
            if not path.exists():
                return False
            run = open_run(path)
            return wanted.steps in run.store(cell).steps() if cell else run.finished()

        def on_chunk(label: str, progress: Any) -> None:
            if progress.step == progress.steps or time.monotonic() - said.get(label, 0) > 60:
                said[label] = time.monotonic()
                self.say(f"{wanted.name}/{label}: step {progress.step} of {progress.steps}")

        def stop() -> bool:
            return self.time_is_over() or (bool(cell) and done())

        if not done():
            osj.run(wanted, path, on_chunk=on_chunk, stop=stop)
        if not done():
            raise TimeIsOverError
        return open_run(path)

    def go(self, work: Callable[[Job], None], conclude: Callable[[Job], None]) -> int:
        """Does the work, concludes from all that is measured, notes the job in the ledger.

        Returns:
          The exit code.
        """
        with contextlib.suppress(RuntimeError):  # JAX has been computing: called from a program
            osj.configure_cpu()
        self.out.mkdir(parents=True, exist_ok=True)
        code, what = 0, "complete"
        if not self.draw:
            try:
                work(self)
            except TimeIsOverError:
                code, what = UNFINISHED, "to be continued"
                self.say("time is over; the same command goes on from here")
            self._note(what)
        conclude(self)
        return code

    def _note(self, what: str) -> None:
        ledger = (RESULTS if self.scale_name == "paper" else self.out) / "ledger.csv"
        row = {
            "ended": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
            "command": shlex.join(["python", f"experiments/{self.name}.py", *sys.argv[1:]])
            if Path(sys.argv[0]).stem == self.name
            else f"experiments/{self.name}.py",
            "seconds": round(time.monotonic() - self._began),
            "cores": os.cpu_count(),
            "outcome": what,
            **{name: version(name) for name in ("onesided-jax", "jax", "optax", "flax")},
        }
        new = not ledger.exists()
        with ledger.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def table(self, name: str, rows: Iterable[Row]) -> None:
        """Writes a table; numbers with five digits."""
        write_table(self.out / f"{name}.csv", list(rows))


def write_table(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _short(v) for k, v in row.items()} for row in rows)
    partial.replace(path)  # a table that is there is complete


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _short(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{float(value):.5g}" if isinstance(value, float | np.floating) else value


# --- what is measured of a cell


class Opened(NamedTuple):
    """A run directory with what measuring it takes."""

    run: Run
    game: osj.Game
    probe: Probe
    criteria: Criteria

    def source(self, cell: str) -> Source:
        return from_run(self.run, cell, self.game)


def opened(run: Run, recipe: osj.Recipe) -> Opened:
    """A run of the game of a recipe, to be measured by its criteria."""
    game, criteria = build_game(recipe.game), recipe.criteria
    sizes = {"microbatches": criteria.microbatches, "samples": criteria.mvi_samples}
    return Opened(run, game, make_probe(game, **sizes), criteria)


def trained(job: Job, wanted: osj.Recipe, cells: Iterable[str]) -> Iterator[tuple[Opened, Source]]:
    """Cells of a recipe, each when it is trained; their measurements are compiled once."""
    what = None
    for cell in cells:
        run = job.train(wanted, cell)
        what = opened(run, wanted) if what is None else what._replace(run=run)
        yield what, what.source(cell)


def labels(source: Source) -> list[str]:
    """Of every run: the cell, and the values of those axes that have several."""
    several = {k: v for k, v in source.hyperparameters.items() if len(set(v.tolist())) > 1}
    return [
        " ".join([source.label, *(f"{name}={column[i]:g}" for name, column in several.items())])
        for i in range(len(source.seeds))
    ]


def measure(job: Job, what: Opened, real: Any, source: Source, folder: Path) -> None:
    """Writes what is measured of a cell, ``norms`` and ``quality``, unless it is there."""
    measure_norms(job, what, source, folder / "norms" / f"{source.label}.csv")
    measure_samples(job, what, real, source, folder / "quality" / f"{source.label}.csv")


def measured(folder: Path, kind: str) -> dict[str, list[Mapping[str, str]]]:
    """The rows of all cells that :func:`measure` has written, by arm."""
    paths = [p for p in sorted((folder / kind).glob("*.csv")) if p.stem != "reference"]
    rows = itertools.chain.from_iterable(map(read_table, paths))
    return {arm: found for (arm,), found in grouped(rows, "arm").items()}


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

    What the measures are made of is written beside it, the accuracy of the classifier included.
    """
    if path.exists():
        return
    job.check()
    (quality,), about = measure_quality(
        [source], what.game, real, None, what.criteria, lambda *_: None
    )
    facts = {k: v for k, v in about.items() if not k.startswith("quality_gate")}
    write_table(path.with_name("reference.csv"), [facts])
    rows: list[Row] = []
    for i, label in enumerate(labels(source)):
        row: Row = {"arm": label, "seed": int(source.seeds[i])}
        row["diverged"] = bool(source.diverged_at[i] >= 0)
        rows.append(row | {k: float(values[i].mean()) for k, values in quality.values.items()})
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


def norms_of(rows: Sequence[Mapping[str, str]]) -> Norms:
    """The rows of one arm."""
    steps = np.array(sorted({int(row["step"]) for row in rows}))
    seeds = sorted({int(row["seed"]) for row in rows})
    place = {(int(row["seed"]), int(row["step"])): row for row in rows}

    def column(name: str) -> np.ndarray:
        return np.array([[float(place[seed, step][name]) for step in steps] for seed in seeds])

    def norm(player: str) -> SquaredNorm:
        value, noise = column(player), column(f"{player}_noise")
        with np.errstate(all="ignore"):
            return SquaredNorm(value, column(f"{player}_se"), noise, value / noise)

    diverged = np.array([place[seed, steps[0]]["diverged"] == "yes" for seed in seeds])
    return Norms(steps, seeds, norm("primal"), norm("dual"), diverged)


def grouped(
    rows: Iterable[Mapping[str, str]], *columns: str
) -> dict[tuple[str, ...], list[Mapping[str, str]]]:
    """Rows by the values of some columns, in order of appearance."""
    found: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found


def varied(criteria: Criteria, thresholds: Sequence[str]) -> Iterator[tuple[str, float, Criteria]]:
    """Criteria with one threshold half as large, or half as large again, where that is possible."""
    for threshold, factor in itertools.product(thresholds, (0.5, 1.5)):
        value = factor * getattr(criteria, threshold)
        try:
            changed = dataclasses.replace(criteria, **{threshold: value})
        except ValueError:
            continue  # "supported" would overlap "refuted"
        yield threshold, value, changed


def word(holds: Any) -> str:
    """A verdict as a word."""
    return {True: "supported", False: "refuted"}.get(holds, "inconclusive")


def ratio_axis(axes: Axes) -> None:
    """A logarithmic x axis for ratios, with plain numbers; 1 is drawn."""
    axes.axvline(1, color="#24292f", linewidth=0.7, zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def span(interval: Interval) -> str:
    """A mean with its interval."""
    if np.isnan(interval.mean):
        return "no number"
    return f"{interval.mean:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
