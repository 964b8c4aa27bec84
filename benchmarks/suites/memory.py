"""Memory per run of a DCGAN sweep beside a torch.func ensemble, and growth over many steps.

Each side runs in a fresh process. *Peak* memory is the high-water mark of the resident memory after
some steps, minus the resident memory after imports and a first small operation. It includes memory
for compiling. *Running* memory does not, because the mark is reset after the first step. On Linux
the mark is ``VmHWM``: ``getrusage``'s ``ru_maxrss`` is wrong there, because a child inherits it
from its parent across ``exec``. Other systems have only ``ru_maxrss``, which cannot be reset.
Growth is read from the resident memory after each chunk of a long sweep of a small MLP game.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onesided_jax as osj
from benchmarks import ours
from benchmarks.harness import (
    Row,
    Scale,
    SuiteResult,
    in_fresh_process,
    progress,
    ratio_row,
    spread,
)

MEBIBYTE = 2**20


def peak_bytes() -> int:
    """High-water mark of the resident memory of this program."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_bytes() -> int | None:
    """Resident memory now, or ``None`` if the system does not report it."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset_peak() -> bool:
    """Resets the high-water mark to the memory in use, if the kernel can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def measure(build: Callable[[], Callable[[], Any]], steps: int) -> dict[str, float | None]:
    """Bytes that ``build`` and calls of the returned function add to the process."""
    resident = resident_bytes()
    before = peak_bytes() if resident is None else resident
    step = build()
    step()
    first_peak = peak_bytes()
    could_reset = resident is not None and reset_peak()
    for _ in range(steps):
        step()
    last_peak = peak_bytes()
    running = last_peak - before if could_reset else None
    return {"peak": max(first_peak, last_peak) - before, "running": running}


def ours_side(width: int, batch: int, runs: int, steps: int) -> dict[str, float | None]:
    import jax

    jax.block_until_ready(jax.jit(lambda x: x + 1)(jax.numpy.zeros(8)))
    ours.images(8)

    def build():
        sweep = ours.Sweep(ours.dcgan_game(width, batch), ours.optimizer(), runs, 1)
        return sweep.advance

    return measure(build, steps)


def ensemble_side(width: int, batch: int, runs: int, steps: int) -> dict[str, float | None]:
    from benchmarks import networks_torch
    from benchmarks import peers_torch as peers

    peers.torch.ones(8).add_(1)

    def build():
        task = networks_torch.dcgan_task(ours.images(), ours.LATENT["dcgan"], width, batch)
        setting = peers.Setting(max(peers.thread_counts()))
        ensemble = peers.Ensemble(task, runs, setting, ours.RATE, ours.B1)
        return lambda: ensemble.advance(1)

    return measure(build, steps)


def growth_side(width: int, batch: int, runs: int, steps: int) -> dict[str, Any]:
    """Resident memory after each of 20 chunks of a sweep that writes checkpoints."""
    chunk = steps // 20
    columns = osj.grid(seeds=runs, rate=ours.RATE)
    trace: list[int | None] = []
    with tempfile.TemporaryDirectory() as out:
        osj.sweep(
            ours.mlp_game(width, batch),
            ours.optimizer(),
            columns,
            steps=20 * chunk,
            checkpoint_every=chunk,
            record_every=chunk,
            out=Path(out) / "run",
            on_chunk=lambda _: trace.append(resident_bytes()),
        )
    return {"steps": 20 * chunk, "resident": trace}


SIDES = {"ours": ours_side, "ensemble": ensemble_side, "growth": growth_side}


def run(scale: Scale, folder: Path) -> SuiteResult:
    del folder
    from benchmarks import peers_torch  # noqa: F401 - fail at once if PyTorch is missing

    sizes = scale.pick((8, 16, 2, 3), (32, 64, 8, 10))
    runs = sizes[2]
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "ensemble": []}
    rounds = scale.pick(1, scale.rounds)
    for number in range(rounds):
        for side, results in found.items():
            results.append(in_fresh_process(__spec__.name, side, *sizes))
        told = ", ".join(f"{k} {v[-1]['peak'] / runs / MEBIBYTE:.0f} MiB" for k, v in found.items())
        progress(f"memory round {number + 1} of {rounds}: peak per run {told}")
    against = f"torch.func.vmap ensemble of {runs}"
    rows: list[Row] = []
    per_run: dict[str, Any] = {}
    for kind, note in (
        ("peak", "most resident memory, compiling included, minus that after imports"),
        ("running", "the same, counted from after the first step"),
    ):
        values = {side: [r[kind] for r in results] for side, results in found.items()}
        if any(v is None or v <= 0 for side in values.values() for v in side):
            continue
        what = f"DCGAN sweep, {runs} runs, {kind} memory"
        rows.append(
            ratio_row(what, against, values["ours"], values["ensemble"], better="lower", note=note)
        )
        per_run[kind] = {
            side: spread([v / runs / MEBIBYTE for v in numbers]) for side, numbers in values.items()
        }
    growth = in_fresh_process(
        __spec__.name, "growth", *scale.pick((8, 16, 2, 200), (32, 64, 8, 10_000))
    )
    trace = [value for value in growth["resident"] if value is not None]
    if trace:
        late = trace[len(trace) // 4 :]
        growth["grown_mebibytes_in_last_three_quarters"] = (late[-1] - late[0]) / MEBIBYTE
        rows.append(
            Row(
                f"MLP sweep, resident memory after {growth['steps']:,} steps",
                "after a quarter of them",
                late[-1] / late[0],
                (late[-1] / late[0],) * 2,
                better="lower",
                note="one fresh process, checkpoints on disk",
            )
        )
        progress(f"grown by {growth['grown_mebibytes_in_last_three_quarters']:.1f} MiB")
    return SuiteResult(rows, {"mebibytes_per_run": per_run, "growth": growth})


if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](*map(int, sys.argv[2:]))))
