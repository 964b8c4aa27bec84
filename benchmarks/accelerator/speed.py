"""Speed of this package's training on this device, for several numbers of runs at once."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import onesided_jax as osj
from benchmarks import ours
from benchmarks.accelerator.sweeps import (
    DCGANS,
    chunk_seconds,
    make_game,
    products_in,
    shape_of,
    sizes_of,
)
from benchmarks.accelerator.work import Row
from benchmarks.harness import progress, repeat, spread
from onesided_jax.sweeps.memory import is_out_of_memory

WALL = 1.0  # seconds of chunks that are timed
RUN_STEPS = 2_000  # per chunk, if STEPS allows it
STEPS = (10, 200)  # fewest and most steps per chunk
ANALYTIC_STEPS = 1_000


class Case(NamedTuple):
    """The game, and the form of its networks.

    Attributes:
      game: ``"dcgan28"`` (width 32), ``"dcgan32"`` (width 64), ``"ring"`` or ``"carousel"``.
      conv: form of the convolutions.
      dtype: of the networks' arithmetic; products of float32 may use TF32 on a GPU.
    """

    game: str
    conv: str = "auto"
    dtype: str = "float32"


def speeds(
    case: Case, runs: Sequence[int], *, tiny: bool = False, data_dir: str | None = None
) -> Iterator[Row]:
    """A row with run-steps per second for each number of runs, in ascending order.

    If a number of runs does not fit, the row says so, and larger ones are not tried. Peak memory is
    that of the whole process so far, so call this function first in a process.

    Example:
      >>> from benchmarks.accelerator.speed import Case, speeds
      >>> (row,) = speeds(Case("ring"), (2,), tiny=True)
      >>> row["runs"], row["run_steps_per_second"] > 0
      (2, True)
    """
    game, full = make_game(case.game, case.conv, case.dtype, tiny, data_dir), None
    for number in runs:
        row: Row = {"side": "ours", **case._asdict(), "runs": number}
        if full is not None:
            yield row | {"problem": f"not tried: {full} runs are too many"}
            continue
        try:
            with products_in(case.dtype):
                row |= _measure(case, game, number, tiny)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            row["problem"] = str(error).partition("\n")[0][:300]
            if is_out_of_memory(error):
                row["problem"], full = "out of memory", number
        told = row.get("problem") or f"{row['run_steps_per_second']['median']:,.0f} run-steps/s"
        progress(f"{' '.join(case)}, {number} runs: {told}")
        yield row
        gc.collect()


def _measure(case: Case, game: osj.Game, runs: int, tiny: bool) -> Row:
    least, most = STEPS
    steps, options, make = 2, {}, ours.optimizer("adam")
    if not tiny:
        steps = max(least, min(most, math.ceil(RUN_STEPS / runs)))
    if case.game == "carousel":
        steps = 10 if tiny else ANALYTIC_STEPS
        make, options = ours.optimizer("extra_adam", b1=0.0), {"record_every": steps}
    sweep = ours.Sweep(game, make, runs, steps, width=runs, devices=jax.devices()[:1], **options)
    taken = repeat(sweep.advance, 0.0 if tiny else WALL)
    stats = jax.devices()[0].memory_stats() or {}
    return {
        "steps": steps,
        "run_steps_per_second": spread([1 / t for t in taken]),
        "compile_seconds": round(sweep.compile_seconds, 1),
        "planned_bytes": sweep.planned_bytes,
        "peak_bytes": stats.get("peak_bytes_in_use"),
        "losses": sweep.losses,
        "parameters": ours.parameter_count(game),
        "gigaflop_per_run_step": _gigaflop(case.game, tiny),
    }


def _gigaflop(game: str, tiny: bool) -> float | None:
    """GFLOP per run-step of a DCGAN's matrix products."""
    if game not in DCGANS:
        return None
    return ours.dcgan_step_flops(*sizes_of(game, tiny), shape_of(game, tiny)) / 1e9


def busy(case: Case, runs: int, *, tiny: bool = False) -> Row:
    """The share of ``osj.sweep``'s time in which the device computes.

    This is the wall time of one dispatch, without interruption by the host, over the wall time of
    the same steps in chunks. Between chunks, checkpoints are fetched and kept in memory.
    """
    steps, chunks = (2, 3) if tiny else (100, 5)
    game, make = make_game(case.game, case.conv, case.dtype, tiny), ours.optimizer("adam")
    device: Any = jax.devices()[:1]
    with products_in(case.dtype):
        whole = ours.Sweep(game, make, runs, steps * (chunks - 1), width=runs, devices=device)
        alone = np.median(repeat(whole.advance, 0.0)) * runs * steps * (chunks - 1)
        chunked = chunk_seconds(game, make, runs, steps, chunks)
    progress(f"device busy between chunks: {alone / chunked:.3f}")
    return {
        **case._asdict(),
        "runs": runs,
        "steps_per_chunk": steps,
        "seconds_in_one_dispatch": float(alone),
        "seconds_in_chunks": chunked,
        "busy": float(alone / chunked),
    }
