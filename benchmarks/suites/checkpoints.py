"""Wall time of ``osj.sweep`` writing a checkpoint after every chunk, against none.

Checkpoints are written while the next chunk computes; the wall time ends when the last one is on
disk. Compilation is done before.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import onesided_jax as osj
from benchmarks import ours
from benchmarks.harness import Scale, SuiteResult, interleave, ratio_row, spread


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    width, batch, runs, chunk, chunks = scale.pick((8, 16, 2, 2, 3), (32, 64, 8, 25, 4))
    game, make = ours.dcgan_game(width, batch), ours.optimizer()
    columns = osj.grid(seeds=runs, rate=ours.RATE)

    def sweep(checkpoint_every: int | None, to_disk: bool) -> float:
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            osj.sweep(
                game,
                make,
                columns,
                steps=chunk * chunks,
                checkpoint_every=checkpoint_every,
                out=Path(out) / "run" if to_disk else None,
            )
            return time.perf_counter() - start

    sides = {
        "none": lambda: sweep(None, False),
        "in memory": lambda: sweep(chunk, False),
        "on disk": lambda: sweep(chunk, True),
    }
    first = {name: side() for name, side in sides.items()}
    measured = interleave(sides, scale.rounds, "checkpoints")
    what = f"DCGAN sweep, {runs} runs, {chunks} checkpoints on disk"
    rows = [
        ratio_row(
            what, "no checkpoints, one chunk", measured["on disk"], measured["none"],
            goal=1.05, better="lower",
            note=f"a checkpoint every {chunk} steps; wall time of osj.sweep",
        ),
        ratio_row(
            what, "the same chunks, kept in memory", measured["on disk"], measured["in memory"],
            better="lower",
        ),
    ]  # fmt: skip
    details = {
        "sizes": {"width": width, "batch": batch, "runs": runs, "chunk": chunk, "chunks": chunks},
        "seconds": {name: spread(values) for name, values in measured.items()},
        "seconds_of_first_call": first,
    }
    return SuiteResult(rows, details)
