"""Analytic games in float64: 4096 runs of ExtraAdam against cooper-optim's, and against NumPy.

All three sides start from the same players with ``eps = 0`` and are compared before they are
timed. Times are per run-step: cooper's loop does one run, ours and NumPy's do all at once.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import onesided_jax as osj
from benchmarks import ours, peers_numpy
from benchmarks.harness import Row, Scale, SuiteResult, interleave, progress, ratio_row, spread

RATE, B1 = 0.01, 0.0
TOLERANCE = 1e-6
COMPARED_STEPS = 50


def bilinear_matrix() -> np.ndarray:
    """The matrix of ``osj.games.bilinear()``, computed from the field."""
    game = osj.games.bilinear()
    players, state = game.init(jax.random.key(0))
    size = len(players.primal)
    columns = [
        game.field(osj.PrimalDual(np.zeros(size), unit), state, ())[0].primal
        for unit in np.eye(size)
    ]
    return np.stack([np.asarray(column) for column in columns], 1)


def sweep_of(game: osj.Game, runs: int, steps: int) -> ours.Sweep:
    make = ours.optimizer("extra_adam", b1=B1, eps=0.0)
    return ours.Sweep(game, make, runs, steps, rate=RATE, record_every=steps)


def numpy_peer(sweep: ours.Sweep, field: peers_numpy.Field) -> peers_numpy.ExtraAdam:
    """NumPy's side, starting from the sweep's current players."""
    return peers_numpy.ExtraAdam(field, *sweep.players(), RATE, B1)


def assert_equal(actual: Any, expected: Any, side: str) -> float:
    """The largest relative difference of two pairs of players."""
    worst = max(
        float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
        for a, b in zip(actual, expected, strict=True)
    )
    if not worst <= TOLERANCE:
        raise AssertionError(f"{side} and ours differ by {worst:.1e} after {COMPARED_STEPS} steps")
    return worst


def torch_seconds(path: Any, steps: int) -> Callable[[], float]:
    """Seconds per step of a path of players, on one thread, as two would wait for each other."""
    from benchmarks.peers_torch import threads

    def measure() -> float:
        with threads(1):
            start = time.perf_counter()
            for _ in itertools.islice(path, steps):
                pass
            return (time.perf_counter() - start) / steps

    return measure


def measure(
    name: str, game: osj.Game, field: peers_numpy.Field, value: Callable[..., Any], scale: Scale
) -> tuple[list[Row], dict[str, Any]]:
    from benchmarks.peers_torch import extra_adam_path

    runs, steps, numpy_steps, torch_steps = scale.pick((256, 50, 50, 20), (4096, 1000, 100, 300))
    checked = sweep_of(game, runs, COMPARED_STEPS)
    start = checked.players()
    peer = numpy_peer(checked, field)
    checked.advance()
    for _ in range(COMPARED_STEPS):
        peer.step()
    path = extra_adam_path(value, start.primal[0], start.dual[0], RATE, B1)
    theirs = next(itertools.islice(path, COMPARED_STEPS - 1, None))
    after = checked.players()
    differences = {
        "NumPy": assert_equal(peer.players, after, "NumPy"),
        "cooper-optim": assert_equal(theirs, [z[0] for z in after], "cooper-optim"),
    }
    told = ", ".join(f"{side} {value:.0e}" for side, value in differences.items())
    progress(f"{name}: relative difference after {COMPARED_STEPS} steps: {told}")

    sweep = sweep_of(game, runs, steps)
    sweep.advance()

    def numpy_seconds() -> float:
        begun = time.perf_counter()
        for _ in range(numpy_steps):
            peer.step()
        return (time.perf_counter() - begun) / (numpy_steps * runs)

    measured = interleave(
        {
            "ours": sweep.advance,
            "NumPy": numpy_seconds,
            "cooper-optim": torch_seconds(path, torch_steps),
        },
        scale.rounds,
        name,
    )
    what = f"{name}, ExtraAdam, {runs} runs"
    rows = [
        ratio_row(
            what, "cooper-optim ExtraAdam, one run", measured["cooper-optim"], measured["ours"],
            goal=1000.0, note="per run-step, float64; the same numbers were checked",
        ),
        ratio_row(
            what, f"NumPy over {runs} runs", measured["NumPy"], measured["ours"],
            goal=5.0, note="float64, gradient written by hand; the same numbers were checked",
        ),
    ]  # fmt: skip
    return rows, {
        "runs": runs,
        "steps_per_chunk": steps,
        "nanoseconds_per_run_step": {
            side: spread([1e9 * taken for taken in values]) for side, values in measured.items()
        },
        "relative_difference": differences,
        "compile_seconds": sweep.compile_seconds,
    }


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    from benchmarks import peers_torch

    rows: list[Row] = []
    details: dict[str, Any] = {}
    with jax.enable_x64(True):
        matrix = bilinear_matrix()
        for name, game, field, value in (
            ("carousel", osj.games.carousel(), peers_numpy.carousel, peers_torch.carousel),
            (
                "bilinear",
                osj.games.bilinear(),
                peers_numpy.bilinear(matrix),
                peers_torch.bilinear(matrix),
            ),
        ):
            more, details[name] = measure(name, game, field, value, scale)
            rows += more
    return SuiteResult(rows, details)
