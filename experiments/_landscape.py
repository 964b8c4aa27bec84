"""What landscape.py measures of one arm: eigenvalues, path-angle, premises, midpoints."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _jobs import Job, Row
from _measure import Opened, labels

import onesided_jax as osj
from onesided_jax.analysis import jacobian_spectrum, path_angle
from onesided_jax.analysis.source import Source
from onesided_jax.runs import Cell, unpack

MINIBATCHES = 4  # side by side: one large batch, the same at all points
KRYLOV = 40  # Arnoldi's steps
KEPT = 12  # eigenvalues a table keeps
PLACES = 5  # checkpoints, evenly, the first after the start
RUNS = 2  # of each arm


def large_batch(game: osj.Game) -> Any:
    parts = [game.sample(key) for key in jax.random.split(jax.random.key(2109_14216), MINIBATCHES)]
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)


def places(steps: Sequence[int]) -> list[int]:
    """``PLACES`` of the checkpoints after the start, the last among them."""
    later = [step for step in steps if step > 0]
    return [later[i] for i in np.linspace(0, len(later) - 1, PLACES).round().astype(int)]


def _runs(source: Source) -> list[int]:
    return [i for i in range(len(source.seeds)) if source.diverged_at[i] < 0][:RUNS]


def _at(source: Source, step: int, run: int) -> tuple[osj.PrimalDual, Any]:
    return jax.tree.map(lambda leaf: leaf[run], tuple(source.snapshot(step)))


def spectra(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    rows: list[Row] = []
    points = itertools.product(_runs(source), places(source.steps), ("both", "primal", "dual"))
    for run, step, player in points:
        job.check()
        players, state = _at(source, step, run)
        entries = sum(leaf.size for leaf in jax.tree.leaves(players))
        found = jacobian_spectrum(
            what.game, players, state=state, batch=batch, player=player,
            method="arnoldi", count=min(KRYLOV, entries // 4),
        )  # fmt: skip
        for rank, (value, residual) in enumerate(zip(found.eigenvalues, found.residuals)):
            if rank == KEPT:
                break
            rows.append(
                {
                    "arm": labels(source)[run], "seed": int(source.seeds[run]), "step": step,
                    "player": player, "rank": rank, "real": float(value.real),
                    "imaginary": float(value.imag), "residual": float(residual),
                }
            )  # fmt: skip
    return rows


def paths(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    rows: list[Row] = []
    for run in _runs(source):
        start, _ = _at(source, source.steps[0], run)
        end, state = _at(source, source.steps[-1], run)
        found = path_angle(what.game, start, end, state=state, batch=batch)
        rows += [
            {
                "arm": labels(source)[run], "seed": int(source.seeds[run]), "alpha": float(alpha),
                "cosine": float(cosine), "norm": float(norm),
            }
            for alpha, cosine, norm in zip(*found)
        ]  # fmt: skip
    return rows


def premises(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    """Between checkpoints: the share of the second moments that fell, and the Lipschitz ratio."""
    store, length = what.run.store(source.label), optax.tree.norm
    field = jax.jit(lambda players, state: what.game.field(players, state, batch)[0])
    rows: list[Row] = []
    before: dict[int, tuple[Any, ...]] = {}  # of each run
    for step in source.steps:
        opt_state = store.read(step)["opt_state"]
        for run in _runs(source):
            players, state = _at(source, step, run)
            F, moments = field(players, state), second_moments(opt_state, run)
            if run in before:
                players_before, F_before, moments_before = before[run]
                moved = float(length(optax.tree.sub(players, players_before)))
                row: Row = {"arm": labels(source)[run], "seed": int(source.seeds[run])}
                row |= {"step": step, "gradient": float(length(F.primal)), "moved": moved}
                row["lipschitz"] = float(length(optax.tree.sub(F, F_before))) / max(moved, 1e-30)
                row["moments_fallen"] = float(np.mean(moments < moments_before))
                rows.append(row)
            before[run] = players, F, moments
    return rows


def midpoints(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    """Both players' norms where a step begins, and where it looks ahead to, on one large batch.

    Extragradient moves by the field at the midpoint. If the step is too long for the curvature the
    field may vanish there and not where the step began: the method is at rest, the game is not.
    """
    store, length = what.run.store(source.label), optax.tree.norm
    field = jax.jit(lambda players, state: what.game.field(players, state, batch))
    rows: list[Row] = []
    steps = places(source.steps)
    opt_states = {step: store.read(step)["opt_state"] for step in steps}  # of all runs
    for run, step in itertools.product(_runs(source), steps):
        players, state = _at(source, step, run)
        tx = arm.make_optimizer({k: column[run] for k, column in source.hyperparameters.items()})
        like = jax.eval_shape(jax.vmap(tx.init), source.snapshot(step).players)
        mine = unpack(opt_states[step], like)
        opt_state = jax.tree.map(lambda leaf: jnp.asarray(leaf[run]), mine)  # noqa: B023
        seen: list[osj.PrimalDual] = []

        def grad_fn(at: osj.PrimalDual, _: Any) -> osj.PrimalDual:
            seen.append(at)  # noqa: B023
            return field(at, state)[0]  # noqa: B023

        tx.update(field(players, state)[0], opt_state, players, grad_fn=grad_fn)
        row: Row = {"arm": labels(source)[run], "seed": int(source.seeds[run]), "step": step}
        for name, point in (("", players), ("_midpoint", seen[-1])):
            F, info = field(point, state)
            row[f"primal{name}"] = float(length(F.primal))
            row[f"dual{name}"] = float(length(F.dual))
            row[f"dual_loss{name}"] = float(info.losses.dual)
        rows.append(row)
    return rows


def second_moments(opt_state: Any, run: int) -> np.ndarray:
    """What the primal player's preconditioner is made of, flat: running maxima where there are."""
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    named = [([str(getattr(k, "key", k)) for k in path], leaf) for path, leaf in leaves]
    for name in ("nu_max", "nu"):
        found = [np.ravel(leaf[run]) for path, leaf in named if name in path and "primal" in path]
        if found:
            return np.concatenate(found)
    raise ValueError("the optimizer's state has no second moments nu")


TABLES = {"midpoints": midpoints, "premises": premises, "path": paths, "spectrum": spectra}
