"""Wall time of ``osj.sweep`` with a checkpoint or live logs after every chunk, against none.

Checkpoints are written while the next chunk computes; the wall time ends when the last one is on
disk. Compilation is not timed. Logs are measured on an MLP-GAN, because its chunks are shortest.
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
    logged, logging_sizes = _logging(scale)
    rows.append(
        ratio_row(
            f"MLP-GAN sweep, {logging_sizes['runs']} runs, logged to TensorBoard and JSONL",
            "not logged", logged["logged"], logged["not logged"],
            goal=1.02, better="lower",
            note=f"chunks of {logging_sizes['chunk']} steps; wall time of osj.sweep",
        )
    )  # fmt: skip
    details = {
        "logging": {
            "sizes": logging_sizes,
            "seconds": {name: spread(values) for name, values in logged.items()},
        },
        "sizes": {"width": width, "batch": batch, "runs": runs, "chunk": chunk, "chunks": chunks},
        "seconds": {name: spread(values) for name, values in measured.items()},
        "seconds_of_first_call": first,
    }
    return SuiteResult(rows, details)


def _logging(scale: Scale) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of a sweep with and without loggers, and its sizes."""
    runs, chunk, chunks = scale.pick((4, 5, 2), (64, 100, 4))
    game, make = ours.mlp_game(), ours.optimizer()
    columns = osj.grid(seeds=runs, rate=ours.RATE)

    def sweep(logged: bool) -> float:
        with tempfile.TemporaryDirectory() as folder:
            loggers = [f"tensorboard:{folder}/tb", f"jsonl:{folder}/log.jsonl"] if logged else []
            start = time.perf_counter()
            osj.sweep(
                game, make, columns,
                steps=chunk * chunks, checkpoint_every=chunk, loggers=loggers,
            )  # fmt: skip
            return time.perf_counter() - start

    sides = {"not logged": lambda: sweep(False), "logged": lambda: sweep(True)}
    for side in sides.values():
        side()
    sizes = {"runs": runs, "chunk": chunk, "chunks": chunks}
    return interleave(sides, scale.rounds, "logging"), sizes
