"""Reads the runs of a cell, from a run directory or from a sweep in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax.games import Game
from onesided_jax.optimizers import FACTS
from onesided_jax.optimizers.registry import defaults
from onesided_jax.players import ArrayTree, PrimalDual, make_key
from onesided_jax.runs import DamagedCheckpointError, Run, unpack

__all__ = [
    "Snapshot",
    "Source",
    "from_result",
    "from_run",
    "groups_of",
    "notes_of",
    "pick_run",
]

_CACHE_BYTES = 2**31  # of snapshots kept in memory; others are read again


class Snapshot(NamedTuple):
    """All runs of a cell at one checkpoint; leaves have a leading run axis.

    Attributes:
      players: both players.
      state: the game's state.
      ema: the primal player's moving average, or ``None`` if the sweep kept none.
    """

    players: PrimalDual
    state: ArrayTree
    ema: ArrayTree | None = None

    def averaged(self) -> PrimalDual:
        """The players that generate samples: the primal player is its average, if there is one."""
        return self.players if self.ema is None else self.players._replace(primal=self.ema)


class Source(NamedTuple):
    """One cell's runs.

    Attributes:
      label: name of the cell.
      seeds: ``int[R]``.
      hyperparameters: name to ``float[R]``.
      steps: steps of the readable checkpoints.
      total_steps: planned steps.
      snapshot: ``step -> Snapshot``.
      metrics: name to ``float[R, records]``.
      record_every: steps between records.
      diverged_at: ``int[R]``, -1 for never.
      constant_rates: ``bool[R]``, whether the dual's rate stays constant.
      damaged: one sentence for each skipped checkpoint.
    """

    label: str
    seeds: np.ndarray
    hyperparameters: dict[str, np.ndarray]
    steps: list[int]
    total_steps: int
    snapshot: Callable[[int], Snapshot]
    metrics: dict[str, np.ndarray]
    record_every: int
    diverged_at: np.ndarray
    constant_rates: np.ndarray
    damaged: list[str]


def from_run(run: Run, cell: str, game: Game) -> Source:
    """A cell of a run directory; damaged checkpoints are skipped and named.

    Raises:
      ValueError: if no checkpoint can be read.
    """
    plan, store = run.manifest["plan"], run.store(cell)
    seeds, every = run.seeds(cell), plan["checkpoint_every"]
    like = _snapshot_like(game, len(seeds), ema="ema" in plan)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))

    @functools.lru_cache(maxsize=2 + int(_CACHE_BYTES / size))
    def load(step: int) -> dict[str, Any]:
        stored = store.read(step)
        kept = {name: stored.get(name, {}) for name in ("metrics", "diverged_at")}
        found = unpack(stored, like)
        ema = found["observers"].get("ema")
        return {**kept, "snapshot": Snapshot(found["players"], found["state"], ema)}

    segments: dict[int, dict[str, np.ndarray]] = {}
    damaged, diverged_at = [], np.full(len(seeds), -1)
    for step in store.steps():
        try:
            stored = load(step)
        except DamagedCheckpointError as error:
            damaged.append(f"{error}; skipped")
        else:
            segments[step], diverged_at = stored["metrics"], np.asarray(stored["diverged_at"])
    if not segments:
        raise ValueError(
            f"{str(run.path)!r}: cell {cell!r} has no readable checkpoint; "
            f"train it with `onesided resume {run.path}`, or the same call of `sweep`"
        )
    steps = list(segments)
    missing = np.full((len(seeds), every // plan["record_every"]), np.nan)
    names = list(segments[steps[-1]])
    return Source(
        label=cell,
        seeds=seeds,
        hyperparameters=run.hyperparameters(cell),
        steps=steps,
        total_steps=plan["steps"],
        snapshot=lambda step: load(step)["snapshot"],
        metrics={
            name: np.concatenate(
                [
                    segments.get(s, {}).get(name, missing)
                    for s in range(every, steps[-1] + 1, every)
                ],
                axis=1,
            )
            for name in names
        },
        record_every=plan["record_every"],
        diverged_at=diverged_at,
        constant_rates=_constant_rates(run, cell),
        damaged=damaged,
    )


def from_result(result: Any, *, label: str = "sweep") -> Source:
    """A ``SweepResult`` in memory."""
    steps = list(result.checkpoints)

    def snapshot(step: int) -> Snapshot:
        checkpoint = result.checkpoints[step]
        ema = None if result.ema is None else checkpoint.observers["ema"]
        return Snapshot(checkpoint.players, checkpoint.state, ema)

    records = next(iter(result.metrics.values())).shape[1]
    return Source(
        label=label,
        seeds=np.asarray(result.seeds),
        hyperparameters=dict(result.hyperparameters),
        steps=steps,
        total_steps=steps[-1],
        snapshot=snapshot,
        metrics=dict(result.metrics),
        record_every=steps[-1] // records,
        diverged_at=np.asarray(result.diverged_at),
        constant_rates=_no_power(result.hyperparameters, len(result.seeds)),
        damaged=[],
    )


def pick_run(tree: ArrayTree, run: int) -> ArrayTree:
    """One run of a tree whose leaves have a leading run axis, as host arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[run], tree)


def groups_of(source: Source) -> list[np.ndarray]:
    """Groups run indices by setting; a repeated seed counts once, because its run is a copy."""
    groups: dict[tuple[float, ...], dict[int, int]] = {}
    values = list(source.hyperparameters.values())
    settings = list(zip(*values, strict=True)) or [()] * len(source.seeds)
    for run, (setting, seed) in enumerate(zip(settings, source.seeds, strict=True)):
        groups.setdefault(setting, {}).setdefault(int(seed), run)
    return [np.array(list(runs.values())) for runs in groups.values()]


def notes_of(source: Source) -> list[str]:
    """Notes about the runs: damage, an unfinished run, repeated seeds."""
    notes = list(source.damaged)
    if source.steps[-1] < source.total_steps:
        notes.append(
            f"{source.label}: trained to {source.steps[-1]} of {source.total_steps} steps; "
            "`onesided resume`, or the same call of `sweep`, continues"
        )
    if copies := len(source.seeds) - sum(map(len, groups_of(source))):
        notes.append(
            f"{source.label}: {copies} of {len(source.seeds)} runs repeat the seed and "
            "hyperparameters of another run; each seed counts once"
        )
    return notes


def _snapshot_like(game: Game, runs: int, *, ema: bool) -> Mapping[str, Any]:
    keys = jax.eval_shape(lambda: jax.random.split(make_key(0), runs))
    players, state = jax.eval_shape(jax.vmap(game.init), keys)
    observers = {"ema": players.primal} if ema else {}
    return {"players": players, "state": state, "observers": observers}


def _constant_rates(run: Run, cell: str) -> np.ndarray:
    """False if the optimizer itself decays the dual learning rate."""
    hyperparameters, runs, recipe = run.hyperparameters(cell), len(run.seeds(cell)), run.recipe
    if recipe is None:
        return _no_power(hyperparameters, runs)
    spec = next(s for s in recipe.optimizers if (s.label or s.name) == cell)
    settings = {**defaults(spec.name), **spec.options, **hyperparameters}
    return ~np.broadcast_to(FACTS[spec.name].slows_down(settings), runs)


def _no_power(hyperparameters: Mapping[str, np.ndarray], runs: int) -> np.ndarray:
    return np.asarray(hyperparameters.get("power", np.zeros(runs))) == 0
