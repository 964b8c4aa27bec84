"""Compile time of a DCGAN sweep: many runs or images against few, a warm cache against a cold one.

The time covers everything before the first step: tracing, lowering and compiling (or loading) the
initialisation and a chunk of the training program. Fresh processes use the cold and warm caches;
their start and imports are not timed.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import ours
from benchmarks.harness import (
    Scale,
    SuiteResult,
    in_fresh_process,
    interleave,
    progress,
    ratio_row,
    spread,
)

GAMES = {"MLP": ours.mlp_game, "DCGAN": ours.dcgan_game}


def compile_seconds(game_name: str, runs: int, steps: int, data: Any = None) -> float:
    """Builds a sweep's programs with empty caches; allocates no runs."""
    jax.clear_caches()
    make = ours.optimizer()
    game = GAMES[game_name]() if data is None else ours.dcgan_game(data=data)
    start = time.perf_counter()
    ours.compiled(ours.plan(game, make, runs, steps), width=runs)
    return time.perf_counter() - start


@contextlib.contextmanager
def no_persistent_cache() -> Iterator[None]:
    config: Any = jax.config
    before = config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    game, few, many, steps = scale.pick(("MLP", 2, 4, 4), ("DCGAN", 4, 64, 20))
    rounds = scale.pick(1, scale.rounds)
    few_images, many_images = scale.pick((32, 64), (5_000, 60_000))
    images = np.resize(ours.images(min(few_images, 2048)), (many_images, 28, 28, 1))
    with no_persistent_cache():
        compile_seconds(game, 1, steps)  # imports and first use cost a process once
        measured = interleave(
            {
                "few": lambda: compile_seconds(game, few, steps),
                "many": lambda: compile_seconds(game, many, steps),
            },
            rounds,
            "compile",
        )
        measured |= interleave(
            {
                "few images": lambda: compile_seconds(game, 1, steps, images[:few_images]),
                "many images": lambda: compile_seconds(game, 1, steps, images),
            },
            rounds,
            "compile",
        )
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(in_fresh_process(__spec__.name, cache, game, few, steps))
            warm.append(in_fresh_process(__spec__.name, cache, game, few, steps))
        progress(f"compile: cold cache {cold[-1]:.2f} s, warm {warm[-1]:.2f} s")
    rows = [
        ratio_row(
            f"compile time, {many} runs", f"{few} runs",
            measured["many"], measured["few"], goal=1.2, better="lower",
            note=f"{game} sweep, tracing and compiling the chunk",
        ),
        ratio_row(
            f"compile time, {many_images:,} images", f"{few_images:,} images",
            measured["many images"], measured["few images"], goal=1.05, better="lower",
            note="DCGAN sweep of one run; the images are an argument of the program",
        ),
        ratio_row(
            "compile time, warm persistent cache", "cold", warm, cold, goal=0.25, better="lower",
            note=f"{game} sweep of {few} runs in fresh processes; tracing is in both",
        ),
    ]  # fmt: skip
    all_seconds = {**measured, "cold": cold, "warm": warm}
    return SuiteResult(rows, {"seconds": {k: spread(v) for k, v in all_seconds.items()}})


def main(cache: str, game: str, runs: str, steps: str) -> None:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    print(json.dumps(compile_seconds(game, int(runs), int(steps))))


if __name__ == "__main__":
    main(*sys.argv[1:])
