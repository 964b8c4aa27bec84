"""From finished runs to small tables that are committed; nothing is judged here.

Each folder of runs becomes a folder of tables: ``norms.csv`` (a row per seed and checkpoint),
``runs.csv`` (a row per seed), ``blocks.csv`` (the streamed sum of the one-sided MVI between two
checkpoints), ``mvi.csv`` (claim 3) and ``samples.png``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _tables import write_table
from jax.flatten_util import ravel_pytree
from matplotlib.image import imsave

import onesided_jax as osj
from _registered.design import AMSGRAD, ARMS, PAIR_RATE, Scale
from onesided_jax.analysis import ClassifierSettings, Reference, quality, quality_reference
from onesided_jax.analysis.estimators import SquaredNorm
from onesided_jax.analysis.measure import Probe, make_probe
from onesided_jax.analysis.minty import MintyTest, minty_test
from onesided_jax.datasets import Dataset
from onesided_jax.theory import jacobian_spectrum, minty_sum

Rows = list[dict[str, Any]]
_CHUNK = 500  # samples generated at once
_LATENTS = 14213  # seed of the evaluation latents


class Meter:
    """The measurements of one game, compiled once."""

    def __init__(self, game: osj.Game, images: Dataset, scale: Scale):
        self.game, self.images, self.scale = game, images, scale

    @functools.cached_property
    def probe(self) -> Probe:
        return make_probe(
            self.game, microbatches=self.scale.microbatches, samples=self.scale.samples
        )

    @functools.cached_property
    def reference(self) -> Reference:
        if self.scale.quality_samples >= 1000:
            return quality_reference(self.images)
        return quality_reference(self.images, settings=ClassifierSettings(presentations=2000))

    @functools.cached_property
    def draw(self) -> Callable[..., jax.Array]:
        """``(players, state, key) -> samples[chunks, n, H, W, C]`` of one run."""
        count = self.scale.quality_samples
        generate = self.game.generate
        assert generate is not None

        def draw(players: Any, state: Any, key: Any) -> jax.Array:
            keys = jax.random.split(key, -(-count // _CHUNK))
            return jax.lax.map(lambda k: generate(players, state, k, min(count, _CHUNK)), keys)

        return jax.jit(draw)

    def quality(self, players: Any, state: Any) -> dict[str, float]:
        """Measures of one run's samples, means over the evaluation seeds; NaN if not finite."""
        keys = jax.random.split(jax.random.key(_LATENTS), self.scale.quality_seeds)
        sets = (np.asarray(self.draw(players, state, key)) for key in keys)
        try:
            found = quality((s.reshape(-1, *s.shape[2:]) for s in sets), self.reference)
        except ValueError:
            return dict.fromkeys(self.reference.measures, math.nan)
        return {name: float(values.mean()) for name, values in found.items()}

    def sheet(self, players: Any, state: Any, path: Path) -> None:
        """Ten samples of each of the first eight runs, a row per run."""
        rows = []
        for run in range(min(8, len(jax.tree.leaves(players)[0]))):
            samples = np.asarray(self.draw(*pick((players, state), run), jax.random.key(_LATENTS)))
            rows.append(np.concatenate([*samples[0, :10]], axis=1))
        image = np.clip((np.concatenate(rows) + 1) / 2, 0, 1)
        imsave(
            path, image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1
        )


def pick(tree: Any, run: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[run], tree)


def measure(meter: Meter, arm: str, result: osj.SweepResult, out: Path) -> None:
    """All tables of a finished arm, but claim 3's."""
    write_table(out / "norms.csv", list(_norms(meter.probe, result)))
    if ARMS[arm].method is not None:
        write_table(out / "blocks.csv", list(_blocks(result)))
    last = result.checkpoints[max(result.checkpoints)]
    meter.sheet(last.players, last.state, out / "samples.png")
    write_table(out / "runs.csv", _runs(meter, arm, result))  # last: it says that all is there


def _norms(probe: Probe, result: osj.SweepResult) -> Iterator[dict[str, Any]]:
    for number, (step, point) in enumerate(result.checkpoints.items()):
        primal, dual = probe.norms(point.players, point.state)
        for run, seed in enumerate(result.seeds):
            yield {
                "seed": int(seed),
                "checkpoint": number,
                "step": step,
                **_columns("primal", primal, run),
                **_columns("dual", dual, run),
            }


def _columns(player: str, norm: SquaredNorm, run: int) -> dict[str, float]:
    return {player: float(norm.value[run]), f"{player}_se": float(norm.standard_error[run])}


def _blocks(result: osj.SweepResult) -> Iterator[dict[str, Any]]:
    """The sum between checkpoints at x* = the run's own end: fresh gradients, so no bias."""
    target = result.players.primal
    points = {n: p.observers["minty"] for n, p in enumerate(result.checkpoints.values())}
    sums = np.stack([minty_sum(stream, target) for stream in points.values()])
    for number, block in zip(points, np.diff(sums, axis=0)):
        for seed, value in zip(result.seeds, block, strict=True):
            yield {"seed": int(seed), "checkpoint": number + 1, "sum": float(value)}


def _runs(meter: Meter, arm: str, result: osj.SweepResult) -> Rows:
    """Quality, and each player's end against its start where the other stands at its end."""
    first, last = (result.checkpoints[end(result.checkpoints)] for end in (min, max))
    end, fresh_primal, fresh_dual = (
        meter.probe.norms(osj.PrimalDual(x.players.primal, y.players.dual), last.state)
        for x, y in ((last, last), (first, last), (last, first))
    )
    table = []
    for run, seed in enumerate(result.seeds):
        row: dict[str, Any] = {"seed": int(seed), "diverged": bool(result.diverged_at[run] >= 0)}
        row |= meter.quality(*pick((last.players, last.state), run))
        row |= _columns("end_primal", end.primal, run) | _columns("end_dual", end.dual, run)
        row |= _columns("fresh_primal", fresh_primal.primal, run)
        row |= _columns("fresh_dual", fresh_dual.dual, run)
        if arm == "amsgrad_xeg":
            players, state = pick((last.players, last.state), run)
            row["steps_over_allowed"] = _excess(meter.game, players, state)
        table.append(row)
    return table


def _excess(game: osj.Game, players: Any, state: Any) -> float:
    """How many times the theorem's largest step, by one minibatch's curvature at the end."""
    found = jacobian_spectrum(
        game, players, state=state, player="primal", method="arnoldi", count=10,
        batch=game.batch(jax.random.key(_LATENTS)),
    )  # fmt: skip
    return PAIR_RATE * math.sqrt(2) * float(np.abs(found.eigenvalues).max()) / AMSGRAD["eps"]


def measure_mvi(
    meter: Meter, result: osj.SweepResult, twins: Mapping[str, Mapping[str, np.ndarray]], out: Path
) -> None:
    """Claim 3's three forms on finished runs, a row per form and seed."""
    points, table = dict(result.checkpoints), []
    whole = max(points)
    middle = min(points, key=lambda step: abs(step - whole // 2))
    before = _some([s for s in points if whole / 4 <= s < middle], meter.scale.rows)
    after = _some([s for s in points if middle < s <= 0.75 * whole], meter.scale.rows)
    paths = {
        "before": [points[step].players for step in before],
        "after": [points[step].players for step in after],
    }
    half, start, end = (points[step] for step in (middle, min(points), whole))
    for run, seed in enumerate(result.seeds):
        like, state = pick((end.players, end.state), run)
        unravel = [ravel_pytree(player)[1] for player in like]
        rows = {
            "after trained": osj.PrimalDual(
                *(jax.vmap(u)(jnp.asarray(twins["B"][name][run]))
                  for u, name in zip(unravel, ("primal", "dual"), strict=True))
            )
        }  # fmt: skip
        for form, path in paths.items():
            chosen = [pick(players, run) for players in path]
            rows[form] = jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)
        targets = dict.fromkeys(paths, pick(half.players.primal, run))
        targets["after trained"] = unravel[0](jnp.asarray(twins["A"]["primal"][run, -1]))
        for form, players in rows.items():
            found = minty_test(
                meter.game,
                meter.probe,
                players=players,
                state=state,
                start=pick(start.players.primal, run),
                target=jax.tree.map(np.asarray, targets[form]),
            )
            table.append({"form": form, "seed": int(seed), **_summary(found)})
    write_table(out / "mvi.csv", table)


def _some(steps: list[int], most: int) -> list[int]:
    places = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    return [steps[i] for i in places]


def _summary(found: MintyTest) -> dict[str, float]:
    finite = found.necessary[np.isfinite(found.necessary)]
    return {
        "negative_mass": found.negative_mass,
        "noise_mass": found.noise_mass,
        "mean_cosine": found.mean_cosine,
        "necessary": float(np.median(finite)) if finite.size else math.nan,
        **found.controls,
    }


def pilot(meter: Meter, result: osj.SweepResult, out: Path) -> None:
    """Quality along the pilot's runs, and sheets of samples; no gradient norm is computed."""
    steps = [step for step in result.checkpoints if step]
    table = []
    for step in _some(steps, 6):
        point = result.checkpoints[step]
        for run, seed in enumerate(result.seeds):
            found = meter.quality(*pick((point.players, point.state), run))
            print(f"pilot: step {step}, seed {seed}: {found}", flush=True)
            table.append({"seed": int(seed), "step": step, **found})
        meter.sheet(point.players, point.state, out / f"samples-{step}.png")
        write_table(out / "quality.csv", table)


__all__ = ["Meter", "measure", "measure_mvi", "pilot"]
